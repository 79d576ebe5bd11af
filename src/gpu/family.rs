//! Which family of kernels a device runs, and which of its kernels keep their run-time checks.

use super::adapter::{Class, Facts, Features};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Forms of the generated kernels (matrix products, attention), by what they need of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Tiles in registers, spread by shuffles over subgroups of 8: for software adapters.
    Subgroup,
    /// Tiles in workgroup memory: runs everywhere.
    Tiled,
    /// f16 products on matrix units, everything else as [`Family::Tiled`].
    Matrix,
}

impl Family {
    /// Every family.
    pub const ALL: [Family; 3] = [Family::Subgroup, Family::Tiled, Family::Matrix];

    /// As `--kernels` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Family::Subgroup => "subgroup",
            Family::Tiled => "tiled",
            Family::Matrix => "matrix",
        }
    }

    /// The family these features are best served by.
    pub(super) fn by_rule(class: Class, features: &Features) -> Family {
        if class == Class::Software && features.subgroup_size == Some(8) {
            Family::Subgroup
        } else if features.matrix_edge.is_some() {
            Family::Matrix
        } else {
            Family::Tiled
        }
    }

    /// What these features lack to run it.
    fn lacks(self, features: &Features) -> Option<&'static str> {
        match self {
            Family::Subgroup if features.subgroup_size != Some(8) => Some("subgroups of 8"),
            Family::Matrix if features.matrix_edge.is_none() => {
                Some("matrix units from f16 to f32, with subgroups of 32")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Family> {
        let found = Family::ALL.into_iter().find(|family| family.name() == text);
        found.ok_or_else(|| {
            Error::setting("kernels", format!("wanted subgroup, tiled or matrix, got '{text}'"))
        })
    }
}

/// Run-time checks that the driver's compiler adds to a kernel: indices held within their arrays, loops that
/// end, divisions that are defined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checks {
    /// In every kernel on software adapters, where they cost nothing that could be measured. On others the
    /// generated kernels go without: their text is proven by tests in both builds.
    #[default]
    Auto,
    /// In every kernel.
    All,
    /// In none: for tests, which hold both builds to the same bits.
    None,
}

impl Checks {
    /// Whether a kernel on an adapter of this class is built with them.
    pub(super) fn cover(self, class: Class, generated: bool) -> bool {
        match self {
            Checks::Auto => class == Class::Software || !generated,
            Checks::All => true,
            Checks::None => false,
        }
    }
}

impl Facts {
    /// Takes the family asked for, or the one by rule.
    ///
    /// Errors: [`Error::Device`] when the adapter cannot run it.
    pub(super) fn choose_family(&mut self, wanted: Option<Family>) -> Result<()> {
        let family = wanted.unwrap_or(Family::by_rule(self.class, &self.features));
        if let Some(lacks) = family.lacks(&self.features) {
            let name = &self.name;
            return Err(Error::Device(format!(
                "'{name}' cannot run the kernels '{family}': it lacks {lacks}; leave --kernels out, or take \
                 'tiled', which runs everywhere"
            )));
        }
        self.family = family;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Gpu;

    #[test]
    fn the_rule_follows_class_and_features() {
        let mut facts = Gpu::plan().facts().clone();
        let mut family = |class, subgroup_size, matrix_edge| {
            (facts.class, facts.features.subgroup_size, facts.features.matrix_edge) =
                (class, subgroup_size, matrix_edge);
            facts.choose_family(None).map(|()| facts.family).unwrap()
        };
        assert_eq!(family(Class::Software, Some(8), None), Family::Subgroup);
        assert_eq!(family(Class::Software, Some(4), None), Family::Tiled);
        assert_eq!(family(Class::Discrete, Some(8), None), Family::Tiled);
        assert_eq!(family(Class::Discrete, Some(32), Some(16)), Family::Matrix);
        assert_eq!(family(Class::Integrated, None, None), Family::Tiled);
    }

    #[test]
    fn what_cannot_run_is_refused_in_one_line() {
        let mut facts = Gpu::plan().facts().clone();
        let error = facts.choose_family(Some(Family::Matrix)).expect_err("refused").to_string();
        assert!(error.contains("'plan'") && error.contains("'matrix'") && !error.contains('\n'), "{error}");
        assert!(facts.choose_family(Some(Family::Tiled)).is_ok());
        facts.features.subgroup_size = None;
        assert!(facts.choose_family(Some(Family::Subgroup)).is_err());
    }

    #[test]
    fn names_come_back() {
        for family in Family::ALL {
            assert_eq!(family.name().parse::<Family>().unwrap(), family);
        }
        assert_eq!("tile".parse::<Family>().expect_err("refused").exit_code(), 2);
    }

    #[test]
    fn only_generated_kernels_on_cards_go_without_checks_unless_told() {
        for class in [Class::Discrete, Class::Integrated, Class::Software] {
            for generated in [false, true] {
                assert!(Checks::All.cover(class, generated));
                assert!(!Checks::None.cover(class, generated));
                let bare = generated && class != Class::Software;
                assert_eq!(Checks::Auto.cover(class, generated), !bare);
            }
        }
    }
}
