//! Holds the floors of the house: every module of `src/` uses only modules on earlier lines of [`FLOORS`].
//! Neighbours on one line do not see each other. Comments may name anything, unit tests obey like the rest.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Foundation first. A new module fails these tests until it stands here: that is the moment to think.
const FLOORS: &[&[&str]] = &[
    &["error"],
    &["files"],
    // host wing: plain Rust, no GPU; and the one room that names wgpu
    &["gpu", "media", "signal", "tokenizers", "weights"],
    &["data", "plot"],
    // machine wing; `testing` is there for unit tests alone
    &["tensor"],
    &["testing"],
    &["ops"],
    &["autograd"],
    &["nn"],
    // where the wings meet
    &["diffusion", "models"],
    &["eval", "generate"],
    &["train"],
    // the door
    &["cli"],
];

/// A Rust file of `src/`.
struct Source {
    path: PathBuf,
    /// `["ops", "softmax"]` for `src/ops/softmax.rs`; empty for `lib.rs` and `main.rs`.
    module: Vec<String>,
    /// Without comments.
    code: String,
}

fn sources() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut found) = (vec![src.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path.strip_prefix(&src).unwrap().with_extension("");
                let module: Vec<_> = module.iter().map(|part| part.to_str().unwrap().to_string()).collect();
                let is_root = module == ["lib"] || module == ["main"];
                let code = without_comments(&std::fs::read_to_string(&path).unwrap());
                found.push(Source { path, module: if is_root { vec![] } else { module }, code });
            }
        }
    }
    found
}

/// Cuts lines at `//` where it begins a line or follows a space, as rustfmt has it: an address in a string stays.
fn without_comments(text: &str) -> String {
    let cut = |line: &'_ str| {
        let starts = line.match_indices("//").map(|(at, _)| at);
        let mut comments = starts.filter(|&at| at == 0 || line.as_bytes()[at - 1] == b' ');
        line[..comments.next().unwrap_or(line.len())].to_string() + "\n"
    };
    text.lines().map(cut).collect()
}

fn floor_of(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `code` holds `word`, not as a part of a longer one.
fn names(code: &str, word: &str) -> bool {
    code.split(|c: char| !is_word(c)).any(|part| part == word)
}

/// What stands under the root after `crate::`, or after as many `super::` as lead there.
fn uses(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut nested: Vec<usize> = Vec::new(); // indents of the inline modules around a line
    let mut line_start = 0;
    for line in source.code.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        // rustfmt sets the end of a module under its beginning.
        if line.trim() == "}" && nested.last() == Some(&indent) {
            nested.pop();
        }
        let supers = "super::".repeat(source.module.len() + nested.len());
        for root in ["crate::", &supers] {
            for (at, _) in line.match_indices(root) {
                let before = &line[..at];
                if !before.ends_with(is_word) && !before.ends_with("super::") {
                    // A list in braces may go on over lines.
                    found.extend(heads(&source.code[line_start + at + root.len()..]));
                }
            }
        }
        if let [.., "mod", _, "{"] = line.split_whitespace().collect::<Vec<_>>()[..] {
            nested.push(indent);
        }
        line_start += line.len();
    }
    found
}

/// First words of a path, or of each path of a list in braces.
fn heads(rest: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|&c| is_word(c)).collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(word(list[start..at].trim_start()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn modules_look_down_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(own) = source.module.first() else { continue };
        let Some(floor) = floor_of(own) else {
            wrong.push(format!("{own}: has no floor; give it one in tests/floors.rs"));
            continue;
        };
        for used in uses(&source) {
            let path = source.path.display();
            match floor_of(&used) {
                _ if used == *own => {}
                Some(below) if below < floor => {}
                Some(_) => wrong.push(format!("{path}: uses {used}, which does not lie below {own}")),
                None => wrong.push(format!("{path}: uses crate::{used}, which has no floor")),
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_map_lists_modules_in_floor_order() {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let listed: Vec<_> = without_comments(&lib)
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_string)
        .collect();
    let rooms: BTreeSet<_> =
        sources().into_iter().filter_map(|source| source.module.into_iter().next()).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), rooms, "modules of lib.rs, files of src");
    // `testing` stands last: it is no part of the library.
    let floors: Vec<_> = listed.iter().filter(|name| *name != "testing").map(|name| floor_of(name)).collect();
    assert!(floors.is_sorted(), "lib.rs lists {listed:?}, tests/floors.rs has another order");
}

#[test]
fn the_binary_uses_nothing_but_the_door() {
    let main = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).unwrap();
    for (at, _) in without_comments(&main).match_indices("mindreel::") {
        let used = heads(&without_comments(&main)[at + "mindreel::".len()..]);
        assert_eq!(used, ["cli"], "src/main.rs");
    }
}

#[test]
fn only_gpu_names_wgpu() {
    for source in sources() {
        let inside = source.module.first().is_some_and(|room| room == "gpu");
        assert!(inside || !names(&source.code, "wgpu"), "{}: names wgpu", source.path.display());
    }
}

#[test]
fn few_places_are_unsafe() {
    // Files are mapped; kernels go without run-time checks; matrix units are asked for; and main.rs sets one
    // environment variable before anything else runs.
    let places = [("weights.rs", usize::MAX), ("pipelines.rs", 1), ("adapter.rs", 1), ("main.rs", 1)];
    for source in sources() {
        let inside = source.module.first().is_some_and(|room| room == "weights");
        let most = places.iter().find(|(file, _)| source.path.ends_with(file)).map_or(0, |place| place.1);
        let found = source.code.split(|c: char| !is_word(c)).filter(|&word| word == "unsafe").count();
        assert!(inside || found <= most, "{}: is unsafe in {found} places", source.path.display());
    }
}

#[test]
fn uses_are_found() {
    let source = |module: &[&str], text: &str| Source {
        path: PathBuf::new(),
        module: module.iter().map(ToString::to_string).collect(),
        code: without_comments(text),
    };
    let found = |module: &[&str], text: &str| uses(&source(module, text)).into_iter().collect::<Vec<_>>();
    assert_eq!(found(&["a"], "use crate::b::C; // crate::no\n/// [`crate::no`]\n"), ["b"]);
    assert_eq!(found(&["a"], "let x = crate::{\n    b::{C, d},\n    e,\n};\n"), ["b", "e"]);
    assert_eq!(
        found(&["a"], "use super::b;\nmod tests {\n    use super::*;\n    use super::super::c;\n}\n"),
        ["b", "c"]
    );
    assert_eq!(found(&["a", "b"], "use super::c;\nuse super::super::d;\n"), ["d"]);
    assert_eq!(found(&["a", "b"], "mod tests {\n    use super::super::c;\n}\nuse super::super::d;\n"), ["d"]);
    assert!(names("let x = unsafe { y };", "unsafe") && !names("unsafe_op_in_unsafe_fn", "unsafe"));
}
