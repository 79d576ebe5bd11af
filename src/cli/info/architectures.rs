//! Every architecture with its inputs and outputs, and the parameters of the named configurations.

use super::{Told, grouped};
use crate::error::Result;
use crate::models::{ARCHITECTURES, n_parameters, pipelines, presets, singles};
use serde_json::{Value, json};

pub(super) fn list() -> Result<Told> {
    let mut text = String::from("architectures of `forward`\n");
    for architecture in ARCHITECTURES {
        text += &format!(
            "  {}\n    in   {}\n    out  {}\n",
            architecture.name, architecture.inputs, architecture.outputs
        );
    }
    let mut configurations = Vec::new();
    for preset in presets() {
        text += &format!("\nconfiguration '{}': {}\n", preset.name, preset.about);
        let (mut total, mut parts) = (0, Vec::new());
        for part in &preset.parts {
            let parameters = n_parameters(&part.wanted()?);
            total += parameters;
            text += &match parameters {
                0 => format!("  {:<10} {}\n", part.folder, part.class()),
                n => format!("  {:<10} {:<24} {:>13} parameters\n", part.folder, part.class(), grouped(n)),
            };
            parts.push(json!({ "folder": part.folder, "class": part.class(), "parameters": parameters }));
        }
        text += &format!("  {:<35} {:>13} parameters\n", "together", grouped(total));
        configurations.push(json!({
            "name": preset.name,
            "about": preset.about,
            "num_frames": preset.num_frames,
            "height": preset.height,
            "width": preset.width,
            "parts": parts,
            "parameters": total,
        }));
    }
    for pipeline in pipelines() {
        text += &format!("\nconfiguration '{}': {}\n", pipeline.name, pipeline.class);
        let mut parts = Vec::new();
        for part in &pipeline.parts {
            let parameters = n_parameters(&part.wanted()?);
            text += &format!(
                "  {:<12} {:<29} {:>13} parameters\n",
                part.folder,
                part.class(),
                grouped(parameters)
            );
            parts.push(json!({ "folder": part.folder, "class": part.class(), "parameters": parameters }));
        }
        configurations.push(json!({ "name": pipeline.name, "class": pipeline.class, "parts": parts }));
    }
    text += "\nsingle models of `init`\n";
    let mut single = Vec::new();
    for network in singles() {
        let (class, parameters) = (network.part.class(), n_parameters(&network.part.wanted()?));
        text += &format!("  {:<26} {class:<30} {:>13} parameters\n", network.name, grouped(parameters));
        single.push(json!({ "name": network.name, "class": class, "parameters": parameters }));
    }
    let architecture =
        |a: &crate::models::Architecture| json!({ "name": a.name, "inputs": a.inputs, "outputs": a.outputs });
    let architectures: Vec<Value> = ARCHITECTURES.iter().map(architecture).collect();
    Ok((
        text,
        json!({ "architectures": architectures, "configurations": configurations, "networks": single }),
    ))
}
