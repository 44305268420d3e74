//! Numbers on the command line. A wrong one gets one sentence that says what to write instead. The
//! arguments need `allow_negative_numbers`, or else clap takes `-3` for an unknown option.

use std::ops::RangeInclusive;

/// Reads a whole number of a range, for clap's `value_parser`.
///
/// # Errors
/// What to write instead.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: Copy + Into<u64> + TryFrom<u64>,
{
    let (least, most): (u64, u64) = ((*range.start()).into(), (*range.end()).into());
    move |text| {
        let wanted = if most < u64::from(u32::MAX) {
            format!("write a whole number from {least} to {most}")
        } else {
            format!("write a whole number, {least} or more")
        };
        let number = text.trim().parse::<i128>().map_err(|_| wanted.clone())?;
        if number > i128::from(most) {
            return Err(format!("write a whole number, {most} or less"));
        }
        let number = u64::try_from(number).ok().filter(|number| *number >= least);
        number.and_then(|number| T::try_from(number).ok()).ok_or(wanted)
    }
}

/// Reads a number above 0, for clap's `value_parser`.
///
/// # Errors
/// What to write instead.
pub fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok();
    let number = number.filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "write a number above 0, such as 1.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_told_what_to_write() {
        let slots = whole(1..=1024_u32);
        assert_eq!(slots("7"), Ok(7));
        for wrong in ["0", "-1", "abc", "1.5", ""] {
            assert_eq!(slots(wrong), Err("write a whole number from 1 to 1024".to_owned()));
        }
        assert_eq!(slots("1025"), Err("write a whole number, 1024 or less".to_owned()));
        let any = whole(0..=u32::MAX);
        assert_eq!((any("0"), any("4294967295")), (Ok(0), Ok(u32::MAX)));
        assert_eq!(any("-1"), Err("write a whole number, 0 or more".to_owned()));
        assert_eq!(any("4294967296"), Err("write a whole number, 4294967295 or less".to_owned()));
        assert_eq!(whole(0..=u64::MAX)("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn times_are_above_zero_and_finite() {
        assert_eq!((above_zero("1.5"), above_zero("3")), (Ok(1.5), Ok(3.0)));
        for wrong in ["0", "-1.5", "NaN", "inf", "abc"] {
            assert!(above_zero(wrong).unwrap_err().contains("above 0"), "{wrong}");
        }
    }
}
