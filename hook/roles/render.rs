//! Tables for people and JSON for programs out of the same serialisable rows.

use std::time::{Duration, SystemTime};

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// A table without borders: a header, rows, columns as wide as needed.
#[must_use]
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Pretty JSON with a newline at the end.
///
/// # Errors
/// [`Kind::Internal`] if a value cannot be written as JSON.
pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|e| Error::new(Kind::Internal, format!("write json: {e}")))
}

/// Bytes as people read them: 512 B, 1.5 KiB.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scale = 1024_u64;
    for (i, unit) in UNITS.iter().enumerate() {
        if count < scale {
            break;
        }
        let last = i == UNITS.len() - 1;
        if last || count / 1024 < scale {
            return format!("{}.{} {unit}", count / scale, count % scale * 10 / scale);
        }
        scale *= 1024;
    }
    format!("{count} B")
}

/// Seconds since 1970 as RFC 3339 in UTC.
#[must_use]
pub fn time(seconds: u64) -> String {
    let when = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(when).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled_with_one_digit() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_are_utc_dates() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(time(1_795_651_200), "2026-11-26T00:00:00Z");
    }

    #[test]
    fn tables_have_no_trailing_blanks() {
        let text = table(&["ID", "NAME"], [vec!["1".into(), "web".into()]]);
        assert_eq!(text, "ID  NAME\n1   web\n");
    }
}
