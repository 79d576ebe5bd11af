//! Every shader has its op, every op with kernels has them validated. Reads sources alone: no GPU is needed.
//!
//! The validation itself, of each variant and generated text, stands in the unit tests beside each op
//! (`shader_twin`), which know the variants.

use std::collections::BTreeMap;
use std::path::Path;

/// Texts of a folder's files with this ending, by their names without it.
fn texts(folder: &str, ending: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Texts of the ops by name, each with those of its folder.
fn ops() -> BTreeMap<String, String> {
    let mut ops = texts("src/ops", "rs");
    for (name, text) in &mut ops {
        let folder = format!("src/ops/{name}");
        if Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder).is_dir() {
            text.extend(texts(&folder, "rs").into_values());
        }
    }
    ops
}

/// The op a shader belongs to: the one of its name, else the longest that its name begins with.
fn op_of<'a>(shader: &str, ops: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let belongs = |op: &&String| shader == *op || shader.starts_with(&format!("{op}_"));
    ops.keys().filter(belongs).max_by_key(|op| op.len()).map(String::as_str)
}

#[test]
fn every_shader_has_its_op_and_is_included_there() {
    let (ops, shaders) = (ops(), texts("shaders", "wgsl"));
    assert!(shaders.len() > 20, "found {} shaders", shaders.len());
    for shader in shaders.keys() {
        let op = op_of(shader, &ops);
        let op = op.unwrap_or_else(|| panic!("shaders/{shader}.wgsl: no src/ops/{shader}.rs"));
        let include = format!("shaders!(\"{shader}\")");
        assert!(ops[op].contains(&include), "shaders/{shader}.wgsl: src/ops/{op}.rs does not include it");
    }
}

#[test]
fn no_op_includes_the_shader_of_another() {
    let ops = ops();
    for (name, text) in &ops {
        for (at, macro_name) in text.match_indices("shaders!(\"") {
            let shader = text[at + macro_name.len()..].split('"').next().unwrap();
            assert_eq!(op_of(shader, &ops), Some(name.as_str()), "src/ops/{name}.rs: includes {shader}");
        }
    }
}

#[test]
fn every_shared_piece_is_used() {
    let (mut rust, gpu) = (texts("src", "rs"), texts("src/gpu", "rs"));
    rust.extend(gpu.into_iter().map(|(name, text)| (format!("gpu/{name}"), text)));
    for piece in texts("shaders/common", "wgsl").keys() {
        let include = format!("shaders/common/{piece}.wgsl\")");
        assert!(rust.values().any(|text| text.contains(&include)), "shaders/common/{piece}.wgsl: not used");
    }
}

#[test]
fn shaders_keep_the_common_form() {
    for folder in ["shaders", "shaders/common"] {
        for (name, text) in texts(folder, "wgsl") {
            let place = format!("{folder}/{name}.wgsl");
            assert!(text.starts_with("// "), "{place}: begins with a comment that says what it computes");
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{place}: ends with one line end");
            for (at, line) in text.lines().enumerate() {
                let place = format!("{place}:{}", at + 1);
                assert!(!line.contains('\t'), "{place}: holds a tab");
                assert!(line == line.trim_end(), "{place}: ends with a space");
                // naga takes the builtins without it and refuses it.
                assert!(!line.contains("enable subgroups"), "{place}: enables subgroups");
                // The prelude chooses the number type.
                assert!(!line.contains("enable f16"), "{place}: enables f16");
            }
        }
    }
    for (name, text) in ops() {
        assert!(!text.contains("enable subgroups"), "src/ops/{name}.rs: enables subgroups");
    }
}

#[test]
fn every_op_with_kernels_validates_them() {
    let mut n_with_kernels = 0;
    for (name, text) in ops() {
        let mut pieces = text.split("#[cfg(test)]\nmod tests {");
        let (code, tests) = (pieces.next().unwrap_or(""), pieces.collect::<String>());
        // What a folder's files hold stands after the tests of the file before them.
        let code = format!("{code}{tests}");
        if code.contains("Kernel::new(") || code.contains("Program::generated(") {
            n_with_kernels += 1;
            let validates = tests.contains("shader_twin(&") || tests.contains("validate(");
            assert!(validates, "src/ops/{name}.rs: no test validates its shader (testing::shader_twin)");
        }
    }
    assert!(n_with_kernels > 15, "found kernels in {n_with_kernels} ops");
}
