//! The transformers behind named tensors.

use super::super::decoding::{Ending, greedy};
use super::*;

/// A language model with the config that says how its texts end.
pub(super) struct Writer<M> {
    model: M,
    config: Config,
}

impl<M> Writer<M> {
    pub(super) fn new(model: M, config: &Config) -> Writer<M> {
        Writer { model, config: config.clone() }
    }
}

impl Inputs {
    /// `attention_mask`, which goes with ids of this shape; no padding without it.
    fn padding(&self, op: &str, shape: &[usize]) -> Result<Padding> {
        let &[batch, tokens] = shape else { unreachable!("two axes were asked for") };
        if !self.has("attention_mask") {
            return Ok(Padding::none([batch, tokens]));
        }
        let (mask_shape, mask) = self.ids(op, "attention_mask", 2)?;
        if mask_shape != shape {
            let detail =
                format!("input 'attention_mask' wants the shape of input_ids, {shape:?}, got {mask_shape:?}");
            return Err(Error::shape(op, detail));
        }
        Padding::new(mask, [batch, tokens])
    }

    /// The same for a prompt: without a mask, padding tokens are taken for padding, as transformers does unless they
    /// also end texts.
    fn prompt_padding(&self, op: &str, shape: &[usize], ids: &[i64], ending: &Ending) -> Result<Padding> {
        let Ending { eos_token_id, pad_token_id: pad } = ending;
        if self.has("attention_mask") || eos_token_id.contains(pad) || !ids.contains(pad) {
            return self.padding(op, shape);
        }
        let mask: Vec<i64> = ids.iter().map(|id| i64::from(id != pad)).collect();
        Padding::new(&mask, [shape[0], shape[1]])
    }
}

impl<M> Host<M> {
    /// `pixel_values [b, c, h, w]` -> [b, h, w, c] on the device.
    fn pixels(&self, op: &str, inputs: &Inputs) -> Result<Tensor> {
        let (shape, values) = inputs.floats(op, "pixel_values", 4)?;
        self.put_image(shape, &values)
    }
}

/// Prompts with what was written behind them.
fn joined(prompts: &[i64], texts: Vec<Vec<i64>>) -> Vec<Vec<i64>> {
    let tokens = prompts.len() / texts.len().max(1);
    prompts.chunks(tokens.max(1)).zip(texts).map(|(prompt, text)| [prompt, &text].concat()).collect()
}

impl Named for Host<Bert> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let op = "bert";
        inputs.only(op, &["input_ids", "attention_mask", "token_type_ids"])?;
        let (shape, ids) = inputs.ids(op, "input_ids", 2)?;
        let types = if inputs.has("token_type_ids") {
            let (types_shape, types) = inputs.ids(op, "token_type_ids", 2)?;
            if types_shape != shape {
                let detail = format!("input 'token_type_ids' wants {shape:?}, got {types_shape:?}");
                return Err(Error::shape(op, detail));
            }
            Some(types)
        } else {
            None
        };
        let hidden = self.model.forward(ids, types, &inputs.padding(op, shape)?)?;
        let mut outputs = vec![give("last_hidden_state", &hidden)?];
        if let Some(pooled) = self.model.pool(&hidden)? {
            outputs.push(give("pooler_output", &pooled)?);
        }
        Ok(outputs)
    }
}

impl Named for Host<Writer<Opt>> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let (op, model) = ("opt", &self.model.model);
        inputs.only(op, &["input_ids", "attention_mask"])?;
        let (shape, ids) = inputs.ids(op, "input_ids", 2)?;
        let hidden = model.forward(&model.embed(ids, shape)?, &inputs.padding(op, shape)?, None)?;
        Ok(vec![give("logits", &model.logits(&hidden)?)?])
    }

    fn generate(&self, inputs: &Inputs, max_new_tokens: usize) -> Result<Vec<Vec<i64>>> {
        let (op, model) = ("opt", &self.model.model);
        inputs.only(op, &["input_ids", "attention_mask"])?;
        let (shape, ids) = inputs.ids(op, "input_ids", 2)?;
        let ending = Ending::beside(&self.model.config)?;
        let padding = inputs.prompt_padding(op, shape, ids, &ending)?;
        let texts = greedy(model, &model.embed(ids, shape)?, &padding, &ending, max_new_tokens)?;
        Ok(joined(ids, texts))
    }
}

impl Named for Host<Writer<Blip2>> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let (op, model) = ("blip2", &self.model.model);
        inputs.only(op, &["pixel_values", "input_ids", "attention_mask"])?;
        let (shape, ids) = inputs.ids(op, "input_ids", 2)?;
        let answers = model.ask(&self.pixels(op, inputs)?)?;
        let (prompt, padding) = model.language().prompt(&answers, ids, &inputs.padding(op, shape)?)?;
        let text = model.language().language_model();
        let logits = text.logits(&text.forward(&prompt, &padding, None)?)?;
        Ok(vec![give("logits", &logits)?, give("qformer_last_hidden_state", &answers)?])
    }

    /// Without `input_ids` the prompt is the image and the token that begins a text.
    fn generate(&self, inputs: &Inputs, max_new_tokens: usize) -> Result<Vec<Vec<i64>>> {
        let (op, model) = ("blip2", &self.model.model);
        inputs.only(op, &["pixel_values", "input_ids", "attention_mask"])?;
        let answers = model.ask(&self.pixels(op, inputs)?)?;
        let batch = answers.shape()[0];
        let config = model.language().config();
        let (shape, ids) = if inputs.has("input_ids") {
            let (shape, ids) = inputs.ids(op, "input_ids", 2)?;
            (shape.to_vec(), ids.to_vec())
        } else {
            let places = config.image_token_id.map_or(Vec::new(), |id| vec![id; config.num_query_tokens]);
            let start = [&places[..], &[config.text.bos_token_id]].concat();
            (vec![batch, start.len()], start.repeat(batch))
        };
        let padding = inputs.padding(op, &shape)?;
        let (prompt, padding) = model.language().prompt(&answers, &ids, &padding)?;
        let ending = Ending::new(&self.model.config.part("text_config")?)?;
        Ok(joined(
            &ids,
            greedy(model.language().language_model(), &prompt, &padding, &ending, max_new_tokens)?,
        ))
    }
}

impl Named for Host<QFormer> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        let op = "qformer";
        inputs.only(op, &["query_embeds", "encoder_hidden_states", "encoder_attention_mask"])?;
        let (query_shape, queries) = inputs.floats(op, "query_embeds", 3)?;
        let (encoder_shape, encoder) = inputs.floats(op, "encoder_hidden_states", 3)?;
        let padding = if inputs.has("encoder_attention_mask") {
            let (shape, mask) = inputs.ids(op, "encoder_attention_mask", 2)?;
            Some(Padding::new(mask, [shape[0], shape[1]])?)
        } else {
            None
        };
        let (queries, encoder) = (self.put(query_shape, &queries)?, self.put(encoder_shape, &encoder)?);
        let hidden = self.model.forward(&queries, &encoder, padding.as_ref())?;
        Ok(vec![give("last_hidden_state", &hidden)?])
    }
}

impl Named for Host<Vit> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("vit", &["pixel_values"])?;
        Ok(vec![give("logits", &self.model.forward(&self.pixels("vit", inputs)?)?)?])
    }
}

impl Named for Host<ClipVision> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("clip_vision", &["pixel_values"])?;
        let (hidden, embeds) = self.model.forward(&self.pixels("clip_vision", inputs)?)?;
        Ok(vec![give("image_embeds", &embeds)?, give("last_hidden_state", &hidden)?])
    }
}

impl Named for Host<VideoMae> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("videomae", &["pixel_values"])?;
        let (shape, values) = inputs.floats("videomae", "pixel_values", 5)?;
        let frames = self.put(shape, &values)?.permute(&[0, 1, 3, 4, 2])?;
        Ok(vec![give("logits", &self.model.forward(&frames)?)?])
    }
}

impl Named for Host<ClipClassifier> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("ClipClassifier", &["pixel_values"])?;
        let (shape, values) = inputs.floats("ClipClassifier", "pixel_values", 5)?;
        let frames = self.put(shape, &values)?.permute(&[0, 1, 3, 4, 2])?;
        Ok(vec![give("logits", &self.model.forward(&frames)?)?])
    }
}

impl Named for Host<EegEncoder> {
    fn forward(&self, inputs: &Inputs) -> Result<Vec<Output>> {
        inputs.only("eeg_encoder", &["spectrogram"])?;
        let (shape, values) = inputs.floats("eeg_encoder", "spectrogram", 4)?;
        let hidden = self.model.forward(&self.put_image(shape, &values)?)?;
        Ok(vec![give("last_hidden_state", &hidden)?])
    }
}
