//! Where `log` records go: standard error through env_logger, and the journal where one listens,
//! since crun throws hook output away.

use log::{LevelFilter, Log, Metadata, Record};
use systemd_journal_logger::JournalLog;

struct Tee {
    stderr: env_logger::Logger,
    journal: Option<JournalLog>,
}

impl Log for Tee {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if self.stderr.matches(record) {
            self.stderr.log(record);
        }
        if let Some(journal) = &self.journal
            && record.level() <= LevelFilter::Info
        {
            journal.log(record);
        }
    }

    fn flush(&self) {
        self.stderr.flush();
    }
}

/// Sets the logger up. `filter` is the text of `RUST_LOG`, if the role may read the environment;
/// without one warnings and errors go to standard error. The journal gets information as well.
pub fn start(filter: Option<&str>) {
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(LevelFilter::Warn)
        .format_timestamp(None)
        .format_target(false);
    if let Some(text) = filter {
        builder.parse_filters(text);
    }
    let stderr = builder.build();
    let journal = JournalLog::new()
        .ok()
        .map(|j| j.with_syslog_identifier("oci-netkit".into()));
    let level = if journal.is_some() {
        LevelFilter::Info.max(stderr.filter())
    } else {
        stderr.filter()
    };
    if log::set_boxed_logger(Box::new(Tee { stderr, journal })).is_ok() {
        log::set_max_level(level);
    }
}
