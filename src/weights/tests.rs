use super::*;
use proptest::prelude::*;

/// A file from its parts; the header is not padded, so values are not aligned.
fn file_of(header: &str, values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
}

fn small_file() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}"#;
    let values: Vec<u8> = (0..6).flat_map(|i| (i as f32).to_le_bytes()).chain(7i64.to_le_bytes()).collect();
    file_of(header, &values)
}

/// Opens bytes as `model.safetensors` in a folder of its own.
fn open_bytes(bytes: &[u8]) -> Result<Checkpoint> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, bytes).unwrap();
    Checkpoint::open(&path)
}

fn refusal(bytes: &[u8]) -> String {
    let error = open_bytes(bytes).expect_err("refused");
    assert!(matches!(error, Error::Format { .. }), "{error}");
    let text = error.to_string();
    let (_, text) = text.split_once("model.safetensors: ").expect("names the file");
    assert!(!text.contains('\n'), "{text}");
    text.to_owned()
}

fn write_f32(path: &Path, tensors: &[(&str, &[usize])]) {
    let values = vec![0.5; 64];
    let tensors = tensors
        .iter()
        .map(|(name, shape)| NewTensor::from_f32(*name, *shape, &values[..shape.iter().product()]));
    write(path, tensors.collect(), &BTreeMap::new()).unwrap();
}

#[test]
fn a_small_file_gives_its_views() {
    let checkpoint = open_bytes(&small_file()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    let a = checkpoint.get("a").unwrap();
    assert_eq!((a.dtype, a.shape), (Dtype::F32, &[2, 3][..]));
    assert_eq!(to_f32(&a).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(to_i64(&checkpoint.get("b").unwrap()).unwrap(), [7]);
    assert!(checkpoint.get("c").is_none());
    assert_eq!(checkpoint.size_bytes(), 32);
    assert_eq!(checkpoint.metadata()["format"], "pt");
}

#[test]
fn every_truncation_is_refused() {
    let file = small_file();
    for length in 0..file.len() {
        refusal(&file[..length]);
    }
    assert!(refusal(&[]).contains("0 B"));
    assert!(refusal(&file[..file.len() - 1]).contains("cut short, download it again"));
}

#[test]
fn a_header_larger_than_the_file_is_refused_before_it_is_read() {
    let wanted = "header says 1152921504606846976 bytes, the file has 2 after the length and 100000000 are allowed; \
                  the copy may be cut short, download it again";
    assert_eq!(refusal(&[&(1u64 << 60).to_le_bytes()[..], b"{}"].concat()), wanted);
    assert!(refusal(&[&3u64.to_le_bytes()[..], b"{}"].concat()).contains("says 3 bytes, the file has 2"));
}

#[test]
fn hostile_headers_are_refused_by_name() {
    let one = |info: &str| file_of(&format!(r#"{{"a":{info}}}"#), &[0; 8]);
    let two = |a: &str, b: &str| {
        let info = |offsets: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}"#);
        file_of(&format!(r#"{{"a":{},"b":{}}}"#, info(a), info(b)), &[0; 16])
    };
    let nested = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, Vec<u8>, &str); 21] = [
        (
            "overlap",
            two("[0,8]", "[4,12]"),
            r#"tensor "b" takes bytes 4 to 12 of the data, wanted a start at 8"#,
        ),
        ("hole", two("[0,8]", "[12,20]"), "tensors overlap or leave a hole"),
        ("same place", two("[0,8]", "[0,8]"), "tensors overlap or leave a hole"),
        ("backwards", one(r#"{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), "takes bytes 8 to 0"),
        (
            "trailing",
            file_of("{}", &[0; 3]),
            "take 0 bytes, the file has 3 for them; something was put behind",
        ),
        (
            "short",
            one(r#"{"dtype":"F32","shape":[4],"data_offsets":[0,16]}"#),
            "take 16 bytes, the file has 8",
        ),
        (
            "name twice",
            {
                let info = r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
                file_of(&format!(r#"{{"a":{info},"\u0061":{info}}}"#), &[0; 8])
            },
            r#""a" is named twice"#,
        ),
        (
            "field twice",
            one(r#"{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}"#),
            "duplicate",
        ),
        (
            "size",
            one(r#"{"dtype":"F16","shape":[2],"data_offsets":[0,8]}"#),
            "F16 [2] needs 4 bytes, it has 8",
        ),
        (
            "product",
            one(r#"{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}"#),
            "larger than",
        ),
        ("bits", one(r#"{"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]}"#), "larger than"),
        ("half a byte", one(r#"{"dtype":"F4","shape":[15],"data_offsets":[0,8]}"#), "needs 8 bytes"),
        ("negative", one(r#"{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}"#), "invalid value"),
        ("fraction", one(r#"{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}"#), "invalid type"),
        (
            "2^64",
            one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551616]}"#),
            "invalid type",
        ),
        ("dtype", one(r#"{"dtype":"object","shape":[2],"data_offsets":[0,8]}"#), "unknown variant"),
        (
            "axes",
            one(&format!(r#"{{"dtype":"F32","shape":[2{}],"data_offsets":[0,8]}}"#, ",1".repeat(16))),
            "at most 16 axes",
        ),
        ("no offsets", one(r#"{"dtype":"F32","shape":[2]}"#), "missing field `data_offsets`"),
        ("deep", file_of(&nested, &[]), "its header is not what safetensors writes"),
        ("not utf-8", [&4u64.to_le_bytes()[..], b"{\"\xff\"", &[0; 8]].concat(), "its header is not"),
        ("a list", file_of("[]", &[]), "does not begin with '{'"),
    ];
    for (case, bytes, wanted) in cases {
        let text = refusal(&bytes);
        assert!(text.contains(wanted), "{case}: {text}");
    }
}

#[test]
fn pickle_is_refused_under_any_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.bin", "a.pt", "a.PTH", "a.ckpt", "a.pickle"] {
        std::fs::write(folder.path().join(name), b"anything").unwrap();
        let text = Checkpoint::open(folder.path().join(name)).unwrap_err().to_string();
        assert!(text.ends_with("pickle can run code; convert with safetensors.torch.save_file"), "{text}");
    }
    let text = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(text.contains("pickle can run code"), "{text}");
    assert!(refusal(b"PK\x03\x04\x14\0\0\0\x08\0").contains("pickle or zip"));
    assert!(refusal(b"\x80\x02}q\0(X\x06\0").contains("pickle or zip"));
}

#[test]
fn a_folder_gives_its_usual_file_and_an_ambiguous_one_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Checkpoint::open(folder.path());
    assert!(open().unwrap_err().to_string().contains("holds no weights"));
    write_f32(&folder.path().join("a.safetensors"), &[("from_a", &[1])]);
    assert!(open().unwrap().get("from_a").is_some());
    write_f32(&folder.path().join("b.safetensors"), &[("from_b", &[1])]);
    assert!(open().unwrap_err().to_string().contains(r#"("a.safetensors", "b.safetensors", …)"#));
    write_f32(&folder.path().join("model.safetensors"), &[("from_model", &[1])]);
    assert!(open().unwrap().get("from_model").is_some());
    write_f32(&folder.path().join("diffusion_pytorch_model.safetensors"), &[("from_unet", &[1])]);
    assert!(open().unwrap().get("from_unet").is_some());
    assert!(matches!(Checkpoint::open(folder.path().join("none")), Err(Error::Read { .. })));
}

#[cfg(unix)]
#[test]
fn odd_paths_are_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("model.safetensors");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(Checkpoint::open(&pipe).unwrap_err().to_string().contains("not a plain file"));
    }
    assert!(Checkpoint::open("/dev/null").is_err());
    assert!(Checkpoint::open("x".repeat(4096)).is_err());
    assert!(Checkpoint::open("a\nb\0").is_err());
}

#[test]
fn shards_are_one_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_f32(&at("model-1.safetensors"), &[("a", &[2]), ("b", &[3])]);
    write_f32(&at("model-2.safetensors"), &[("c", &[4])]);
    let index = at("model.safetensors.index.json");
    let with_map = |map: &str| {
        std::fs::write(&index, format!(r#"{{"metadata":{{"total_size":36}},"weight_map":{map}}}"#)).unwrap();
        Checkpoint::open(folder.path())
    };
    let good = r#"{"a":"model-1.safetensors","b":"model-1.safetensors","c":"model-2.safetensors"}"#;
    let checkpoint = with_map(good).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(checkpoint.get("c").unwrap().shape, [4]);
    assert_eq!(Checkpoint::open(&index).unwrap().size_bytes(), 36);

    let refused = |map: &str, wanted: &str| {
        let text = with_map(map).unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
    };
    refused(r#"{"a":"model-2.safetensors"}"#, r#"says "a" is in"#);
    refused(r#"{"a":"model-3.safetensors"}"#, "cannot be read");
    refused("{}", "names no shards");
    for path in
        ["../model-1.safetensors", "/etc/model.safetensors", r"..\\m.safetensors", "", ".", "..", "a.bin"]
    {
        refused(&format!(r#"{{"a":"{path}"}}"#), "wanted a .safetensors file of its folder");
    }
    std::fs::write(&index, "{").unwrap();
    assert!(Checkpoint::open(folder.path()).unwrap_err().to_string().contains("is no index of shards"));
    write_f32(&at("model-2.safetensors"), &[("a", &[2]), ("c", &[4])]);
    refused(good, r#""a" is in an earlier shard too"#);
}

#[test]
fn renaming_keeps_the_files_name_and_refuses_two_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write_f32(&path, &[("text_model.a", &[1]), ("b", &[2])]);
    let checkpoint = Checkpoint::open(&path).unwrap().renamed(clip_text_names).unwrap();
    assert_eq!(checkpoint.get("a").unwrap().file_name, "text_model.a");
    assert_eq!(checkpoint.get("b").unwrap().shape, [2]);
    write_f32(&path, &[("text_model.a", &[1]), ("a", &[1])]);
    let error = Checkpoint::open(&path).unwrap().renamed(clip_text_names).unwrap_err().to_string();
    assert!(
        error.ends_with(r#"model.safetensors: "a" and "text_model.a" both mean "a"; remove one of them"#)
    );
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let ids = [0; 3];
    let floats = [0.0; 12];
    let tensors = vec![
        NewTensor::from_f32("text_model.conv_inn.weight", [2], &floats[..2]),
        NewTensor::from_f32("fc.weight", [4, 3], &floats),
        NewTensor::from_f32("fc.bias", [4], &floats[..4]),
        NewTensor::from_i64("scale", [3], &ids),
        NewTensor::from_i64("embeddings.position_ids", [1, 3], &ids),
        NewTensor::from_f32("old.position_ids", [3], &floats[..3]),
    ];
    write(&path, tensors, &BTreeMap::new()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap().renamed(clip_text_names).unwrap();
    let wanted = [
        Wanted::new("conv_in.weight", [2]),
        Wanted::new("fc.weight", [3, 4]),
        Wanted::new("fc.bias", [1, 4]),
        Wanted::new("scale", [3]),
        Wanted::optional("extra.head", [9]),
    ];
    let text = check(&checkpoint, &wanted, false).unwrap_err().to_string();
    let expected = "model.safetensors: 1 tensor missing: \"conv_in.weight\" (the file has \"text_model.conv_inn.weight\"); \
                    2 tensors of another shape: \"fc.weight\" is [4, 3], wanted [3, 4] (transposed), \
                    \"fc.bias\" is [4], wanted [1, 4]; 1 tensor without floats: \"scale\" is I64";
    assert!(text.ends_with(expected), "{text}");

    let wanted = [Wanted::new("fc.weight", [4, 3]), Wanted::new("fc.bias", [4])];
    let warnings = check(&checkpoint, &wanted, false).unwrap();
    let line = "1 tensor the model does not use: \"text_model.conv_inn.weight\"";
    assert_eq!(warnings, [line]);
    assert!(check(&checkpoint, &wanted, true).unwrap_err().to_string().ends_with(line));

    let many: Vec<Wanted> = (0..25).map(|i| Wanted::new(format!("{i:0>40}"), [1])).collect();
    let text = check(&checkpoint, &many, false).unwrap_err().to_string();
    assert!(text.contains("25 tensors missing: ") && text.ends_with(" and 15 more"), "{text}");
}

#[test]
fn a_planted_nan_is_found_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for planted in 0..6 {
        let mut values = [1.0f32; 6];
        values[planted] = if planted % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY };
        write(&path, vec![NewTensor::from_f32("a", [2, 3], &values)], &BTreeMap::new()).unwrap();
        let text = refuse_nonfinite(&Checkpoint::open(&path).unwrap()).unwrap_err().to_string();
        assert!(text.contains("\"a\": 1 of 6 values are NaN or infinite; take another checkpoint"), "{text}");
    }
    write_f32(&path, &[("a", &[6])]);
    refuse_nonfinite(&Checkpoint::open(&path).unwrap()).unwrap();
}

#[test]
fn a_written_file_is_the_reference_writers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (ids, floats) = ([3i64, -4], [1.0f32, 1.5, -2.0]);
    let halves: Vec<u8> = floats.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let tensors = vec![
        NewTensor::streamed("half", Dtype::F16, [3], |sink| {
            floats.iter().try_for_each(|v| sink.put_f32(&[*v]))
        }),
        NewTensor::from_f32("b", [3, 1], &floats),
        NewTensor::from_i64("z", [2], &ids),
        NewTensor::from_f32("a", [0, 3], &[]),
    ];
    write(&path, tensors, &BTreeMap::new()).unwrap();
    use safetensors::tensor::{TensorView, serialize};
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let reference = serialize(
        [
            ("half", view(Dtype::F16, &[3], &halves)),
            ("b", view(Dtype::F32, &[3, 1], bytemuck::cast_slice(&floats))),
            ("z", view(Dtype::I64, &[2], bytemuck::cast_slice(&ids))),
            ("a", view(Dtype::F32, &[0, 3], &[])),
        ],
        Some(HashMap::from([("format".to_owned(), "pt".to_owned())])),
    );
    let written = std::fs::read(&path).unwrap();
    assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&reference.unwrap()));
}

#[test]
fn values_that_do_not_fill_the_shape_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let values = [0.0; 4];
    let refused = |tensors: Vec<NewTensor>, wanted: &str| {
        let text = write(&path, tensors, &BTreeMap::new()).unwrap_err().to_string();
        assert!(text.contains(wanted), "{text}");
        assert!(!path.exists());
    };
    refused(vec![NewTensor::from_f32("a", [5], &values)], "\"a\" [5] lacks its last 4 bytes");
    refused(vec![NewTensor::from_f32("a", [3], &values)], "16 bytes were given, 12 are left");
    refused(vec![NewTensor::from_f32("a", [usize::MAX, 2], &values)], "larger than any memory");
    let twice = vec![NewTensor::from_f32("a", [4], &values), NewTensor::from_i64("a", [0], &[])];
    refused(twice, "two tensors are named \"a\"");
    refused(vec![NewTensor::from_f32("__metadata__", [4], &values)], "two tensors are named");
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        tensors in proptest::collection::btree_map(
            "[\\PC]{1,12}",
            proptest::collection::vec(any::<f32>().prop_filter("NaN is not equal", |v| !v.is_nan()), 0..20),
            0..6,
        ),
        text in "\\PC{0,20}",
    ) {
        prop_assume!(!tensors.contains_key("__metadata__"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let new = tensors.iter().map(|(name, values)| NewTensor::from_f32(name, [values.len()], values));
        write(&path, new.collect(), &BTreeMap::from([("note".to_owned(), text.clone())])).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        prop_assert_eq!(&checkpoint.metadata()["note"], &text);
        prop_assert_eq!(checkpoint.names().count(), tensors.len());
        for (name, values) in &tensors {
            prop_assert_eq!(&to_f32(&checkpoint.get(name).unwrap()).unwrap(), values);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_stays_inside(position in 0usize..220, byte: u8) {
        let mut file = small_file();
        let position = position % file.len();
        file[position] = byte;
        if let Ok(checkpoint) = open_bytes(&file) {
            for view in checkpoint.views() {
                prop_assert!(view.bytes.len() <= 32);
                let _ = (to_f32(&view), to_i64(&view), scan_finite(&view));
            }
        }
    }
}
