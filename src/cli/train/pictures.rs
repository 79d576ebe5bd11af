//! Pictures of finished units: who is taken for whom, and how the losses fell.

use crate::error::Result;
use crate::files;
use crate::plot::{self, Panel, Series};
use crate::train::classify::UnitResult;
use crate::train::report::{self, Summary};
use std::path::Path;

/// confusion-*.png, curves-*.png and curves-*.csv of one model, task and protocol.
pub(super) fn write(output: &Path, group: &[&UnitResult], summary: &Summary) -> Result<()> {
    let Summary { model, task, protocol, .. } = summary;
    let name = format!("{model}-{task}-{protocol}");
    let accuracy = format!(
        "{:.1} % of clips (chance {:.1} %)",
        100.0 * summary.top1,
        100.0 * summary.uniform_chance.max(summary.majority_chance)
    );
    if summary.n_classes <= plot::CONFUSION_MAX_CLASSES {
        let counts: Vec<u64> = report::confusion(group).into_iter().flatten().collect();
        let names: Vec<String> = (1..=summary.n_classes).map(|class| class.to_string()).collect();
        let scene = plot::confusion(&format!("{model}, {task}: {accuracy}"), &counts, &names)?;
        scene.save(output.join(format!("confusion-{name}.png")))?;
    }
    let curve = report::mean_curve(group);
    let line = |name: &str, which: usize| Series::over_epochs(name, curve.iter().map(move |at| at[which]));
    let panels = [
        Panel {
            y_label: "cross-entropy".into(),
            series: vec![line("training", 0), line("validation", 1)],
            ..Panel::default()
        },
        Panel {
            y_label: "accuracy of windows".into(),
            series: vec![line("validation", 2)],
            level: Some((summary.uniform_chance, "chance".into())),
            ..Panel::default()
        },
    ];
    let scene =
        plot::curves(&format!("{model}, {task}: mean of {} units", summary.n_units), "epoch", &panels)?;
    scene.save(output.join(format!("curves-{name}.png")))?;
    let mut text = String::from("epoch,train_loss,validation_loss,validation_accuracy\n");
    for (epoch, [train, validation, accuracy]) in curve.iter().enumerate() {
        text += &format!("{},{train},{validation},{accuracy}\n", epoch + 1);
    }
    files::write_text(output.join(format!("curves-{name}.csv")), &text)
}
