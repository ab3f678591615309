//! Axes of plots: where a value lies between two ends, and which values get a tick.

/// Most ticks of one axis.
const TICKS_MAX: f64 = 6.0;

/// Values further apart than this factor are drawn on a logarithmic axis.
const LOGARITHMIC_FROM: f64 = 20.0;

/// Maps values to positions from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Equal steps.
    Linear {
        /// The value at 0.
        from: f64,
        /// The value at 1.
        to: f64,
    },
    /// Equal factors; both ends are above 0.
    Logarithmic {
        /// The value at 0.
        from: f64,
        /// The value at 1.
        to: f64,
    },
}

impl Scale {
    /// From 0 to a round value that is not below `values`.
    pub fn from_zero(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(0.0, f64::max);
        let step = step_of(most.max(f64::MIN_POSITIVE));
        Self::Linear { from: 0.0, to: (most / step).ceil().max(1.0) * step }
    }

    /// From 0, or with equal factors when the values, all above 0, are far apart.
    pub fn fitting(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let most = values.clone().fold(0.0, f64::max);
        if least.is_finite() && most / least > LOGARITHMIC_FROM {
            let [from, to] =
                [least.log10().floor(), most.log10().ceil()].map(|power| 10_f64.powf(power));
            Self::Logarithmic { from: tightened(from, least), to: to / tightened(1.0, to / most) }
        } else {
            Self::from_zero(values)
        }
    }

    /// Where `value` lies, 0 to 1; values beyond an end lie on it.
    pub fn position(&self, value: f64) -> f64 {
        let position = match *self {
            Self::Linear { from, to } => (value - from) / (to - from),
            Self::Logarithmic { from, to } => (value.max(from) / from).ln() / (to / from).ln(),
        };
        position.clamp(0.0, 1.0)
    }

    /// Values for ticks, ascending.
    pub fn ticks(&self) -> Vec<f64> {
        match *self {
            Self::Linear { from, to } => {
                let step = step_of(to - from);
                let count = ((to - from) / step + 1e-9).floor() as u32;
                (0..=count).map(|index| from + f64::from(index) * step).collect()
            }
            Self::Logarithmic { from, to } => {
                let decades = (to / from).log10();
                let steps: &[f64] =
                    if decades > TICKS_MAX / 2.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
                let all = powers
                    .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
                all.filter(|tick| (from * 0.999..=to * 1.001).contains(tick)).collect()
            }
        }
    }
}

/// The largest of 1, 2 and 5 times `end` that is not above `value`: less empty space than a whole decade.
fn tightened(end: f64, value: f64) -> f64 {
    [5.0, 2.0].map(|step| step * end).into_iter().find(|end| *end <= value).unwrap_or(end)
}

/// The least of 1, 2 and 5 times a power of ten that cuts `length` into at most [`TICKS_MAX`] steps.
fn step_of(length: f64) -> f64 {
    let least = length / TICKS_MAX;
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(least)
}

#[cfg(test)]
mod tests {
    //! Goal: every value has its place between the ends, and ticks are round and few.
    use super::*;

    #[test]
    fn a_linear_axis_ends_at_a_round_value() {
        let scale = Scale::from_zero([3.0, 15.7].into_iter());
        assert_eq!(scale, Scale::Linear { from: 0.0, to: 20.0 });
        assert_eq!(scale.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert!((scale.position(10.0) - 0.5).abs() < 1e-12);
        assert_eq!((scale.position(-1.0), scale.position(99.0)), (0.0, 1.0));
    }

    #[test]
    fn far_values_share_a_logarithmic_axis() {
        let values = [8.2, 36_000.0];
        let scale = Scale::fitting(values.into_iter());
        assert_eq!(scale, Scale::Logarithmic { from: 5.0, to: 50_000.0 });
        let ticks = scale.ticks();
        assert_eq!(ticks.len(), 4, "{ticks:?}");
        assert!((ticks[0] - 10.0).abs() < 1e-9 && (ticks[3] - 10_000.0).abs() < 1e-6);
        assert!(values.iter().all(|value| (0.01..0.99).contains(&scale.position(*value))));
    }

    #[test]
    fn near_values_begin_at_zero() {
        assert_eq!(Scale::fitting([8.0, 12.0].into_iter()), Scale::Linear { from: 0.0, to: 12.0 });
    }

    #[test]
    fn no_axis_is_empty() {
        for scale in [Scale::from_zero([].into_iter()), Scale::fitting([0.0].into_iter())] {
            assert!(scale.position(0.0).is_finite() && !scale.ticks().is_empty(), "{scale:?}");
        }
    }
}
