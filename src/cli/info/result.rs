//! Results: the settings in a run.json, in a GIF's comment, in a PNG's text, and the command that makes it again.

use super::{Told, shown};
use crate::error::{Error, Result};
use crate::files;
use crate::media;
use serde_json::{Map, Value, json};
use std::path::Path;

/// No run.json is longer.
const LIMIT_BYTES: u64 = 64 << 20;

/// A run.json; of other JSON files the keys are shown all the same.
pub(super) fn json_file(path: &Path) -> Result<Told> {
    let content = files::read_small(path, LIMIT_BYTES)?;
    let value: Value = serde_json::from_slice(&content)
        .map_err(|error| Error::format(path, format!("not valid JSON: {error}")))?;
    match &value {
        Value::Object(fields) => Ok((format!("{}\n{}", path.display(), settings(fields)), value)),
        _ => Err(Error::format(path, "wanted a JSON object of settings")),
    }
}

pub(super) fn gif(path: &Path) -> Result<Told> {
    let comment = media::gif::read_comment(path)?;
    let frames = media::gif::read(path)?;
    Ok(clip(path, &frames, comment))
}

pub(super) fn png(path: &Path) -> Result<Told> {
    let (frames, comment) = media::png::read(path)?;
    Ok(clip(path, &frames, comment))
}

fn clip(path: &Path, frames: &media::Frames, comment: Option<String>) -> Told {
    let (count, height, width) = (frames.count, frames.height, frames.width);
    let mut text = format!("{}\n", path.display());
    text += &match count {
        1 => format!("  picture     {height}x{width}\n"),
        n => format!("  clip        {n} frames {height}x{width}, {:.2} s\n", frames.duration_s()),
    };
    let fields = comment.as_deref().and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    text += &match (&fields, &comment) {
        (Some(fields), _) => settings(fields),
        (None, Some(comment)) => match made_by(comment) {
            Some((version, command)) => {
                format!(
                    "  made by     mindreel {}\nto make it again:\n  {}\n",
                    shown(version),
                    shown(command)
                )
            }
            None => format!("  comment     {}\n", shown(comment)),
        },
        (None, None) => "  comment     none\n".to_string(),
    };
    let settings = match (fields, comment) {
        (Some(fields), _) => Value::Object(fields),
        (None, comment) => json!(comment),
    };
    let json = json!({
        "frames": count,
        "height": height,
        "width": width,
        "duration_s": frames.duration_s(),
        "settings": settings,
    });
    (text, json)
}

/// Version and command of a comment that `video` wrote: `mindreel 0.1.0: mindreel video …`.
fn made_by(comment: &str) -> Option<(&str, &str)> {
    let (version, command) = comment.strip_prefix("mindreel ")?.split_once(": ")?;
    command.starts_with("mindreel ").then_some((version, command))
}

/// One line per setting, tables indented below their name, and the command last.
fn settings(fields: &Map<String, Value>) -> String {
    let mut text = String::new();
    list(fields, 1, &mut text);
    if let Some(command) = command(fields) {
        text += &format!("to make it again:\n  {command}\n");
    }
    text
}

fn list(fields: &Map<String, Value>, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, value) in fields.iter().filter(|(key, _)| depth > 1 || *key != "command") {
        let key = shown(key);
        match value {
            Value::Object(inner) if depth < 4 => {
                *text += &format!("{indent}{key}\n");
                list(inner, depth + 1, text);
            }
            Value::Null => {}
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) if items.iter().any(Value::is_object) => {
                let count =
                    if items.len() == 1 { "1 entry".into() } else { format!("{} entries", items.len()) };
                *text += &format!("{indent}{key:<22} {count}\n");
            }
            Value::String(word) => *text += &format!("{indent}{key:<22} {}\n", shown(word)),
            other => *text += &format!("{indent}{key:<22} {}\n", shown(&other.to_string())),
        }
    }
}

/// The `command` of a run: its words, quoted where a shell would break them.
fn command(fields: &Map<String, Value>) -> Option<String> {
    match fields.get("command")? {
        Value::String(line) => Some(shown(line)),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            (!words.is_empty()).then(|| words.into_iter().map(quoted).collect::<Vec<_>>().join(" "))
        }
        _ => None,
    }
}

/// A word as a shell takes it whole.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_string();
    }
    format!("'{}'", shown(word).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_quoted_for_a_shell() {
        let fields = json!({ "command": ["mindreel", "video", "--eeg", "my eeg.npy", "--note", "it's"] });
        let line = command(fields.as_object().unwrap()).unwrap();
        assert_eq!(line, r"mindreel video --eeg 'my eeg.npy' --note 'it'\''s'");
        assert_eq!(command(json!({ "command": [] }).as_object().unwrap()), None);
    }

    #[test]
    fn settings_are_listed_and_harmless() {
        let fields = json!({ "seed": 4, "adapter": { "name": "x\u{1b}[2J" }, "eta": null, "command": "mindreel video" });
        let text = settings(fields.as_object().unwrap());
        assert!(text.contains("seed                   4\n"), "{text}");
        assert!(text.contains("  adapter\n    name                   x\\u{1b}[2J\n"), "{text}");
        assert!(text.ends_with("to make it again:\n  mindreel video\n") && !text.contains("eta"), "{text}");
    }

    #[test]
    fn a_clip_tells_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("000.gif");
        let frames = media::Frames::new(2, 2, 3, vec![9; 36], 4.0).unwrap();
        media::gif::write(&path, &frames, r#"{"seed": 7, "command": ["mindreel", "video"]}"#).unwrap();
        let (text, json) = gif(&path).unwrap();
        assert!(text.contains("2 frames 2x3, 0.50 s") && text.contains("mindreel video"), "{text}");
        assert_eq!(json["settings"]["seed"], 7);
        media::gif::write(&path, &frames, "by hand").unwrap();
        assert!(gif(&path).unwrap().0.contains("comment     by hand"));
        media::gif::write(&path, &frames, "mindreel 0.1.0: mindreel video --seed 7").unwrap();
        let text = gif(&path).unwrap().0;
        assert!(
            text.ends_with("  made by     mindreel 0.1.0\nto make it again:\n  mindreel video --seed 7\n")
        );
    }
}
