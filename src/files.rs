//! Writing so that nothing half-done looks finished: a temporary name in the same folder, flushed to disk,
//! then renamed, then the folder flushed. Reading of small files that may be anything but small. The order
//! of names.

use crate::error::{Error, Result};
use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `fill`; the old file stays until the new one is whole. Makes missing parent folders.
///
/// Errors: [`Error::Write`] naming `path`; whatever `fill` returns. Nothing is left behind on failure.
pub fn write_atomically(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_folder(folder)?;
    let temporary = tempfile::Builder::new()
        .prefix(".tmp-")
        .permissions(permissions())
        .tempfile_in(folder)
        .map_err(Error::write(path))?;
    let mut writer = BufWriter::new(temporary.as_file());
    fill(&mut writer)?;
    writer.flush().map_err(Error::write(path))?;
    drop(writer);
    temporary.as_file().sync_all().map_err(Error::write(path))?;
    temporary.persist(path).map_err(|e| Error::write(path)(e.error))?;
    sync_folder(folder).map_err(Error::write(path))
}

/// Writes a text as it is: see [`write_atomically`].
///
/// Errors: [`Error::Write`].
pub fn write_text(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    write_atomically(path, |file| file.write_all(text.as_bytes()).map_err(Error::write(path)))
}

/// Writes JSON, indented by two and with a last line end: see [`write_atomically`].
///
/// Errors: [`Error::Write`].
pub fn write_json(path: impl AsRef<Path>, value: &impl serde::Serialize) -> Result<()> {
    let path = path.as_ref();
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::write(path)(error.into()))?;
    write_text(path, &(text + "\n"))
}

/// Reads a file meant to be small (a config, an index, a vocabulary) of at most `limit_bytes`.
///
/// Errors: [`Error::Read`]; [`Error::Format`] when it is not a plain file (a pipe would hang the reader) or
/// larger than the limit, found before anything is allocated.
pub fn read_small(path: impl AsRef<Path>, limit_bytes: u64) -> Result<Vec<u8>> {
    let path = path.as_ref();
    let metadata = std::fs::metadata(path).map_err(Error::read(path))?;
    if !metadata.is_file() {
        return Err(Error::format(path, "is not a plain file"));
    }
    let too_large = |size: u64| {
        let (size, limit) = (crate::error::bytes(size), crate::error::bytes(limit_bytes));
        Error::format(path, format!("has {size}, at most {limit} are read; is it the right file?"))
    };
    if metadata.len() > limit_bytes {
        return Err(too_large(metadata.len()));
    }
    let mut content = Vec::with_capacity(metadata.len() as usize);
    let file = File::open(path).map_err(Error::read(path))?;
    // One byte more than allowed tells a file that grew, or one like /proc's that reports no size.
    file.take(limit_bytes + 1).read_to_end(&mut content).map_err(Error::read(path))?;
    if content.len() as u64 > limit_bytes {
        return Err(too_large(content.len() as u64));
    }
    Ok(content)
}

/// Reads a small file of JSON.
///
/// Errors: those of [`read_small`]; [`Error::Format`] for what is no JSON.
pub fn read_json(path: &Path, limit_bytes: u64) -> Result<serde_json::Value> {
    serde_json::from_slice(&read_small(path, limit_bytes)?)
        .map_err(|error| Error::format(path, format!("is not valid JSON: {error}")))
}

/// Sorts by name in the order people count: `clip-2` before `clip-10`.
pub fn sort_naturally(paths: &mut [PathBuf]) {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    paths.sort_by(|a, b| natural(&name(a), &name(b)));
}

/// Digits compare as numbers, the rest letter by letter; of equals, that with more zeros is first.
fn natural(a: &str, b: &str) -> Ordering {
    let number = |text: &str| {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        (text[..digits].trim_start_matches('0').to_string(), digits)
    };
    let (mut x, mut y) = (a, b);
    loop {
        match (x.chars().next(), y.chars().next()) {
            (None, None) => return a.cmp(b),
            (Some(c), Some(d)) if c.is_ascii_digit() && d.is_ascii_digit() => {
                let ((one, n), (other, m)) = (number(x), number(y));
                match one.len().cmp(&other.len()).then_with(|| one.cmp(&other)) {
                    Ordering::Equal => (x, y) = (&x[n..], &y[m..]),
                    unequal => return unequal,
                }
            }
            (c, d) if c == d => {
                (x, y) = (&x[c.map_or(0, char::len_utf8)..], &y[d.map_or(0, char::len_utf8)..])
            }
            (c, d) => return c.cmp(&d),
        }
    }
}

/// Makes a folder and its parents; no error when it is there.
pub fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::write(folder))
}

/// Makes the folder `path` through `fill`, which is given another name beside it; the new folder appears, and an
/// old one goes, only when `fill` is through.
///
/// Errors: [`Error::Write`] naming `path`; whatever `fill` returns. Nothing is left behind on failure.
pub fn make_folder_atomically(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_folder(parent)?;
    let aside = || {
        let mut builder = tempfile::Builder::new();
        builder
            .prefix(".tmp-")
            .permissions(folder_permissions())
            .tempdir_in(parent)
            .map_err(Error::write(path))
    };
    let new = aside()?;
    fill(new.path()).map_err(|error| match error {
        // Its own name means nothing to the user.
        Error::Write { path: within, source } if within.starts_with(new.path()) => {
            Error::Write { path: path.to_path_buf(), source }
        }
        other => other,
    })?;
    sync_folder(new.path()).map_err(Error::write(path))?;
    if path.exists() {
        let old = aside()?; // removed with what is in it at the end
        std::fs::rename(path, old.path().join("old")).map_err(Error::write(path))?;
        if let Err(error) = std::fs::rename(new.path(), path) {
            std::fs::rename(old.path().join("old"), path).map_err(Error::write(path))?;
            return Err(Error::write(path)(error));
        }
    } else {
        std::fs::rename(new.path(), path).map_err(Error::write(path))?;
    }
    let _ = new.keep(); // it has its name now
    sync_folder(parent).map_err(Error::write(path))
}

/// Removes what a process that was killed left half written in a folder that is there; for folders nobody else writes to.
pub fn sweep(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(Error::read(folder))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".tmp-")) {
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(Error::write(&path))?;
        }
    }
    Ok(())
}

/// Refuses to overwrite: [`Error::Write`] when `path` exists and `force` is off.
pub fn refuse_existing(path: &Path, force: bool) -> Result<()> {
    if !force && path.exists() {
        let source = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "it exists already; give another name, or --force to replace it",
        );
        return Err(Error::Write { path: path.to_path_buf(), source });
    }
    Ok(())
}

/// Refuses to touch a folder that is not ours: an empty one is taken, one that holds the file `mark` is replaced with
/// `force`, anything else is left alone. `kind` is what such a folder is called.
///
/// Errors: [`Error::Write`].
pub fn refuse_foreign_folder(path: &Path, mark: &str, kind: &str, force: bool) -> Result<()> {
    let is_empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty {
        return Ok(());
    }
    refuse_existing(path, force)?;
    if path.exists() && !path.join(mark).is_file() {
        let detail =
            format!("it is no {kind} (no {mark}), so --force does not replace it; give another name");
        let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, detail);
        return Err(Error::Write { path: path.to_path_buf(), source });
    }
    Ok(())
}

#[cfg(unix)]
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}

#[cfg(unix)]
fn folder_permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o755)
}

#[cfg(not(unix))]
fn folder_permissions() -> std::fs::Permissions {
    permissions()
}

#[cfg(not(unix))]
fn permissions() -> std::fs::Permissions {
    // Only unix knows modes; elsewhere a fresh file's own permissions are right.
    let mut permissions =
        std::fs::metadata(".").map(|m| m.permissions()).expect("the current folder has metadata");
    permissions.set_readonly(false);
    permissions
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(()) // a folder cannot be opened as a file there; the rename itself is journaled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_as_people_count() {
        let mut names = ["10.gif", "2.gif", "clip-0010", "clip-2", "1.gif", "02.gif", "clip-2b", "a"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["1.gif", "02.gif", "2.gif", "10.gif", "a", "clip-2", "clip-2b", "clip-0010"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_stray() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |w| w.write_all(b"old").map_err(Error::write(&path))).unwrap();
        let failed = write_atomically(&path, |w| {
            w.write_all(b"half").map_err(Error::write(&path))?;
            Err(Error::setting("x", "planted"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        let fill = |text: &'static str| {
            move |into: &Path| std::fs::write(into.join("a"), text).map_err(Error::write(into.join("a")))
        };
        make_folder_atomically(&path, fill("old")).unwrap();
        let failed = make_folder_atomically(&path, |into| {
            fill("half")(into)?;
            Err(Error::setting("x", "planted"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(path.join("a")).unwrap(), b"old");
        make_folder_atomically(&path, fill("new")).unwrap();
        assert_eq!(std::fs::read(path.join("a")).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let named = make_folder_atomically(&path, |into| {
            Err(Error::write(into.join("b"))(std::io::ErrorKind::StorageFull.into()))
        });
        assert!(named.unwrap_err().to_string().starts_with(&path.display().to_string()));
    }

    #[test]
    fn a_large_file_and_a_folder_are_not_read_as_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, b"{}  ").unwrap();
        assert_eq!(read_small(&path, 4).unwrap(), b"{}  ");
        assert!(read_small(&path, 3).unwrap_err().to_string().contains("at most 3 B are read"));
        assert!(read_small(folder.path(), 4).unwrap_err().to_string().contains("is not a plain file"));
    }

    #[test]
    fn an_existing_output_is_refused_without_force() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refuse_existing(folder.path(), false).is_err());
        assert!(refuse_existing(folder.path(), true).is_ok());
    }
}
