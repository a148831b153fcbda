//! Who used the CPUs of the machine that emulates the guest: the emulator, this client, others. What
//! others used was missing to the guest. In ticks of 10 ms, as the kernel tells it.

use std::error::Error;
use std::fs;

use serde_json::{Value, json};

/// Of all CPUs since the boot.
pub(crate) struct HostCpu {
    busy: u64,
    emulator: u64,
    client: u64,
}

impl HostCpu {
    pub(crate) fn now() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            busy: busy(&fs::read_to_string("/proc/stat")?)?,
            emulator: emulator()?,
            client: of_process(&fs::read_to_string("/proc/self/stat")?)?,
        })
    }

    /// CPUs used on average since then.
    pub(crate) fn since(&self, start: &Self, seconds: f64) -> Value {
        let busy = self.busy - start.busy;
        let emulator = self.emulator - start.emulator;
        let client = self.client - start.client;
        let others = busy.saturating_sub(emulator + client);
        let cpus = |ticks: u64| u32::try_from(ticks).map_or(0.0, f64::from) / 100.0 / seconds;
        json!({ "emulator": cpus(emulator), "client": cpus(client), "others": cpus(others) })
    }
}

/// All but idle and iowait of the first line of /proc/stat. A guest's time is in user's already.
fn busy(stat: &str) -> Result<u64, Box<dyn Error>> {
    let line = stat.lines().next().ok_or("/proc/stat is empty")?;
    let mut sum = 0;
    for (number, field) in line.split_whitespace().skip(1).take(8).enumerate() {
        if ![3, 4].contains(&number) {
            sum += field.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// utime and stime of /proc/PID/stat. The name before them may have spaces.
fn of_process(stat: &str) -> Result<u64, Box<dyn Error>> {
    let (_, rest) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().ok_or("/proc/PID/stat is short");
    Ok(next()?.parse::<u64>()? + next()?.parse::<u64>()?)
}

/// The run has its own pid namespace, with one emulator in it.
fn emulator() -> Result<u64, Box<dyn Error>> {
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("qemu-system") {
            return of_process(&fs::read_to_string(path.join("stat"))?);
        }
    }
    Err("no emulator runs here".into())
}
