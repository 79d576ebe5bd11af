//! Reading a `config.json`: values by key, with the file and the key in every refusal.

use crate::error::{Error, Result};
use crate::files;
use crate::ops::Activation;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// No config is longer than this.
const LIMIT_BYTES: u64 = 16 << 20;
/// No model has more layers of a kind.
const MOST_LAYERS: usize = 256;

/// A model's settings as diffusers and transformers write them.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    values: serde_json::Map<String, Value>,
}

impl Config {
    /// Reads a JSON object.
    ///
    /// Errors: [`Error::Read`], [`Error::Format`].
    pub fn open(path: impl AsRef<Path>) -> Result<Config> {
        let path = path.as_ref();
        let bytes = files::read_small(path, LIMIT_BYTES)?;
        Config::from_json(path, &bytes)
    }

    /// From bytes at hand; `path` is for messages.
    pub fn from_json(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Config> {
        let path = path.as_ref().to_path_buf();
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(values)) => Ok(Config { path, values }),
            Ok(_) => Err(Error::format(&path, "wanted a JSON object of settings")),
            Err(error) => Err(Error::format(&path, format!("not valid JSON: {error}"))),
        }
    }

    /// The architecture: `_class_name`, or the first of `architectures`.
    pub fn architecture(&self) -> Result<&str> {
        let named = self.values.get("_class_name").or_else(|| self.values.get("architectures")?.get(0));
        named.and_then(Value::as_str).ok_or_else(|| {
            Error::format(&self.path, "names no architecture; add \"_class_name\" or \"architectures\"")
        })
    }

    /// The same with another value of a key.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Config {
        self.values.insert(key.to_string(), value.into());
        self
    }

    /// Writes it as `config.json` is written.
    ///
    /// Errors: [`Error::Write`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        files::write_json(path, &self.values)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Whether a key is there, `null` or not.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A count.
    pub fn size(&self, key: &str) -> Result<usize> {
        self.get(key).ok_or_else(|| self.missing(key)).and_then(|value| self.as_size(key, value))
    }

    /// A count, or its usual value.
    pub fn size_or(&self, key: &str, usual: usize) -> Result<usize> {
        self.get(key).map_or(Ok(usual), |value| self.as_size(key, value))
    }

    /// A count of layers, or its usual value: a file that asks for more than anyone builds is refused, not waited
    /// for.
    pub fn layers_or(&self, key: &str, usual: usize) -> Result<usize> {
        match self.size_or(key, usual)? {
            n if n <= MOST_LAYERS => Ok(n),
            _ => Err(self.wrong(key, &format!("at most {MOST_LAYERS}"))),
        }
    }

    /// Several counts.
    pub fn sizes(&self, key: &str) -> Result<Vec<usize>> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let list = value.as_array().ok_or_else(|| self.wrong(key, "a list of counts"))?;
        list.iter().map(|value| self.as_size(key, value)).collect()
    }

    /// One count for all of `n`, or a list of `n`.
    pub fn size_each(&self, key: &str, n: usize, usual: usize) -> Result<Vec<usize>> {
        match self.get(key) {
            None => Ok(vec![usual; n]),
            Some(Value::Array(list)) if list.len() == n => self.sizes(key),
            Some(Value::Array(_)) => Err(self.wrong(key, &format!("a count or a list of {n}"))),
            Some(value) => Ok(vec![self.as_size(key, value)?; n]),
        }
    }

    /// A count of at least 1, or its usual value.
    pub fn positive_or(&self, key: &str, usual: usize) -> Result<usize> {
        match self.size_or(key, usual)? {
            0 => Err(self.wrong(key, "at least 1")),
            n => Ok(n),
        }
    }

    /// Height and width: one count for both, or two. None is 0.
    pub fn pair_or(&self, key: &str, usual: usize) -> Result<[usize; 2]> {
        match self.size_each(key, 2, usual)?[..] {
            [height, width] if height > 0 && width > 0 => Ok([height, width]),
            _ => Err(self.wrong(key, "sizes of at least 1")),
        }
    }

    /// A number, or its usual value.
    pub fn number_or(&self, key: &str, usual: f64) -> Result<f64> {
        self.get(key).map_or(Ok(usual), |value| value.as_f64().ok_or_else(|| self.wrong(key, "a number")))
    }

    /// A switch, or its usual position.
    pub fn switch_or(&self, key: &str, usual: bool) -> Result<bool> {
        self.get(key)
            .map_or(Ok(usual), |value| value.as_bool().ok_or_else(|| self.wrong(key, "true or false")))
    }

    /// A word, or its usual value.
    pub fn word_or<'a>(&'a self, key: &str, usual: &'a str) -> Result<&'a str> {
        self.get(key).map_or(Ok(usual), |value| value.as_str().ok_or_else(|| self.wrong(key, "a word")))
    }

    /// Several words.
    pub fn words(&self, key: &str) -> Result<Vec<&str>> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        let words = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        words.ok_or_else(|| self.wrong(key, "a list of words"))
    }

    /// An activation by the name transformers gives it, or its usual one.
    pub fn activation(&self, key: &str, usual: &str) -> Result<Activation> {
        Ok(match self.word_or(key, usual)? {
            "gelu" | "gelu_python" => Activation::Gelu,
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            _ => {
                return Err(
                    self.wrong(key, "gelu, gelu_pytorch_tanh, quick_gelu, relu, silu, tanh or sigmoid")
                );
            }
        })
    }

    /// Attention heads that divide the width.
    pub fn heads_or(&self, key: &str, usual: usize, width: usize) -> Result<usize> {
        match self.size_or(key, usual)? {
            heads if heads > 0 && width > 0 && width.is_multiple_of(heads) => Ok(heads),
            _ => Err(self.wrong(key, &format!("heads that divide a width of {width}"))),
        }
    }

    /// Classes, as transformers tells them: `id2label` names each, `num_labels` counts them, else there are two.
    pub fn labels(&self) -> Result<usize> {
        match self.get("id2label") {
            Some(Value::Object(names)) if !names.is_empty() => Ok(names.len()),
            Some(_) => Err(self.wrong("id2label", "the name of each class")),
            None => match self.size_or("num_labels", 2)? {
                0 => Err(self.wrong("num_labels", "at least 1")),
                n => Ok(n),
            },
        }
    }

    /// Ids of which there are none, one or several: `eos_token_id`.
    pub fn ids(&self, key: &str) -> Result<Vec<i64>> {
        let wrong = || self.wrong(key, "an id or a list of ids");
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|id| id.as_i64().ok_or_else(wrong)).collect(),
            Some(id) => Ok(vec![id.as_i64().ok_or_else(wrong)?]),
        }
    }

    /// The settings of a part, `vision_config` and the like; none where the key is absent.
    pub fn part(&self, key: &str) -> Result<Config> {
        let path = self.path.with_file_name(match self.path.file_name() {
            Some(name) => format!("{}, {key}", name.display()),
            None => key.to_string(),
        });
        match self.get(key) {
            None => Ok(Config { path, values: Default::default() }),
            Some(Value::Object(values)) => Ok(Config { path, values: values.clone() }),
            Some(_) => Err(self.wrong(key, "an object of settings")),
        }
    }

    /// Refuses settings that change the model in ways not written here: each key must be absent, null or `usual`,
    /// or a list of nothing else (one for each level). 1 and 1.0 are alike.
    pub fn only(&self, usual: &[(&str, Value)]) -> Result<()> {
        for (key, value) in usual {
            let alike = |got: &Value| got == value || (got.is_number() && got.as_f64() == value.as_f64());
            let fits = |got: &Value| alike(got) || got.as_array().is_some_and(|each| each.iter().all(alike));
            if !self.get(key).is_none_or(fits) {
                return Err(self.wrong(key, &format!("{value} (nothing else is written yet)")));
            }
        }
        Ok(())
    }

    /// Refuses an `act_fn` other than SiLU, which is also called swish.
    pub fn only_silu(&self) -> Result<()> {
        match self.word_or("act_fn", "silu")? {
            "silu" | "swish" => Ok(()),
            _ => Err(self.wrong("act_fn", "\"silu\" (nothing else is written yet)")),
        }
    }

    /// A refusal that names the key.
    pub fn wrong(&self, key: &str, wanted: &str) -> Error {
        let got = self.values.get(key).map_or("nothing".to_string(), Value::to_string);
        Error::format(&self.path, format!("\"{key}\": wanted {wanted}, got {got}"))
    }

    fn missing(&self, key: &str) -> Error {
        Error::format(&self.path, format!("has no \"{key}\""))
    }

    fn as_size(&self, key: &str, value: &Value) -> Result<usize> {
        let whole = value
            .as_u64()
            .or_else(|| value.as_f64().filter(|v| v.fract() == 0.0 && *v >= 0.0).map(|v| v as u64));
        // Sizes multiply: one that large cannot be meant.
        whole.filter(|&v| v <= 1 << 24).map(|v| v as usize).ok_or_else(|| self.wrong(key, "a count"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> Config {
        Config::from_json("config.json", value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn usual_settings_pass_however_they_are_written() {
        let usual = [("scale", json!(1)), ("only_cross_attention", json!(false)), ("embed", json!(null))];
        for fine in [
            json!({}),
            json!({ "scale": 1, "only_cross_attention": false, "embed": null }),
            json!({ "scale": 1.0, "only_cross_attention": [false, false] }),
        ] {
            config(fine).only(&usual).unwrap();
        }
        for wrong in [
            json!({ "scale": 1.5 }),
            json!({ "scale": "1" }),
            json!({ "only_cross_attention": [false, true] }),
            json!({ "embed": "time" }),
            json!({ "embed": [1] }),
        ] {
            assert!(config(wrong.clone()).only(&usual).is_err(), "{wrong}");
        }
        assert_eq!(config(json!({ "layers": 256 })).layers_or("layers", 2).unwrap(), 256);
        assert_eq!(config(json!({})).layers_or("layers", 2).unwrap(), 2);
        assert!(config(json!({ "layers": 257 })).layers_or("layers", 2).is_err());
        config(json!({ "act_fn": "swish" })).only_silu().unwrap();
        assert!(config(json!({ "act_fn": "gelu" })).only_silu().is_err());
    }
}
