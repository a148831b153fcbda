//! Very many UDP sockets at a time, to see that each gets its own answers. Needs no echo server of
//! ours: the wire machine has them.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, setrlimit};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::socket::Socket;

/// So many ask at a time: a server with a small buffer loses what comes at once.
const AT_ONCE: usize = 64;
const UNTIL_ASKED_AGAIN: Duration = Duration::from_millis(200);

/// So many UDP sockets at a time, each with another word for one of the echo servers and each its
/// answer awaited only once all have asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flows {
    remotes: Vec<(String, u16)>,
    count: usize,
    timeout: Option<f64>,
}

struct Flow {
    socket: Socket,
    word: String,
}

impl Flows {
    pub(crate) fn answer(&self) -> io::Result<Value> {
        let patience = Duration::from_secs_f64(self.timeout.unwrap_or(10.0));
        let descriptors = u64::try_from(self.count).unwrap_or(u64::MAX) + 100;
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let flows = self.open(&epoll)?;
        let end = Instant::now() + patience;
        let mut waiting: BTreeSet<usize> = (0..flows.len()).collect();
        let (mut answered, mut wrong) = (0, 0);
        let mut asked: Vec<usize> = Vec::new();
        let mut events = [EpollEvent::empty(); 1023];
        // Flows that got no answer yet stay open and ask again.
        while !waiting.is_empty() && Instant::now() < end {
            if asked.is_empty() {
                asked = first(&waiting);
            }
            for n in &asked {
                let _ = flows[*n].socket.send(flows[*n].word.as_bytes());
            }
            asked = first(&waiting);
            let until = Instant::now() + UNTIL_ASKED_AGAIN;
            while !asked.is_empty() && Instant::now() < until {
                let ready = match epoll.wait(&mut events, 50_u8) {
                    Err(Errno::EINTR) => 0,
                    done => done?,
                };
                for event in &events[..ready] {
                    let n = usize::try_from(event.data()).unwrap_or(usize::MAX);
                    let is_own = flows[n].socket.receive()? == flows[n].word.as_bytes();
                    wrong += usize::from(!is_own);
                    if waiting.remove(&n) {
                        answered += usize::from(is_own);
                    }
                }
                asked.retain(|n| waiting.contains(n));
            }
        }
        Ok(json!({"ok": true, "answered": answered, "wrong": wrong}))
    }

    fn open(&self, epoll: &Epoll) -> io::Result<Vec<Flow>> {
        let pid = std::process::id();
        let remotes = self.remotes.iter().cycle().take(self.count).enumerate();
        remotes
            .map(|(n, (to, port))| {
                let socket = Socket::udp(to, 5.0)?;
                socket.connect(to, *port)?;
                let data = u64::try_from(n).unwrap_or(u64::MAX);
                epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, data))?;
                let word = format!("flow {n} of {pid}");
                Ok(Flow { socket, word })
            })
            .collect()
    }
}

fn first(waiting: &BTreeSet<usize>) -> Vec<usize> {
    waiting.iter().copied().take(AT_ONCE).collect()
}
