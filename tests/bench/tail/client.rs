//! The client: requests leave by a schedule, whatever happened to those before them, and a latency
//! counts from the scheduled time to the last byte of the answer. One thread, so that it costs little
//! of the CPUs it shares with the emulator; how late it sent is part of its report.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::host_cpu::HostCpu;
use crate::tcp::Tcp;
use crate::{REQUEST_BYTES, WRITE_BYTES, WRITES};

const ANSWER_BYTES: usize = WRITES * WRITE_BYTES;
const CONNECT: Duration = Duration::from_secs(20);

/// A line of JSON; its answer is another one.
#[derive(Deserialize)]
struct Order {
    copies: Vec<(Ipv4Addr, u16)>,
    connections: u32,
    /// Requests per second and copy. Without: each answer is followed by a request, `depth` of them
    /// at a time on each connection, which finds out what the servers can do at most.
    rate: Option<f64>,
    #[serde(default)]
    depth: u32,
    /// What is scheduled in these first seconds does not count.
    warm_up: f64,
    seconds: f64,
    /// So long after the last request the client still waits for answers.
    grace: f64,
}

/// Takes orders, one connection at a time, until it is killed.
pub(crate) fn serve(port: u16) -> Result<(), Box<dyn Error>> {
    for guest in TcpListener::bind(("0.0.0.0", port))?.incoming() {
        let mut guest = guest?;
        for line in BufReader::new(guest.try_clone()?).lines() {
            let answer = match line.map_err(Box::from).and_then(|l| follow(&l)) {
                Ok(report) => report,
                Err(error) => json!({ "error": error.to_string() }),
            };
            guest.write_all(format!("{answer}\n").as_bytes())?;
        }
    }
    Ok(())
}

fn follow(line: &str) -> Result<Value, Box<dyn Error>> {
    let order: Order = serde_json::from_str(line)?;
    let mut run = Run::connect(&order)?;
    let (cpu, tcp) = (HostCpu::now()?, Tcp::now()?);
    run.go()?;
    let report = run.report();
    let seconds = run.start.elapsed().as_secs_f64();
    Ok(json!({
        "cpus": HostCpu::now()?.since(&cpu, seconds),
        "tcp": Tcp::now()?.since(&tcp),
        "elapsed": seconds,
        "result": report,
    }))
}

/// A connection and the scheduled times of its unanswered requests, oldest first.
struct Connection {
    stream: TcpStream,
    unsent: usize,
    waiting: VecDeque<Instant>,
    received: usize,
    is_broken: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, CONNECT)
            .map_err(|e| format!("connect to {address}: {e}"))?;
        stream
            .set_nodelay(true)
            .and_then(|()| stream.set_nonblocking(true))
            .map_err(|e| e.to_string())?;
        Ok(Self {
            stream,
            unsent: 0,
            waiting: VecDeque::new(),
            received: 0,
            is_broken: false,
        })
    }

    fn request(&mut self, scheduled: Instant) {
        self.waiting.push_back(scheduled);
        self.unsent += REQUEST_BYTES;
        self.send();
    }

    /// As much as the socket takes; the rest waits here, and the schedule does not wait for it.
    fn send(&mut self) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.unsent > 0 && !self.is_broken {
            match self.stream.write(&ZEROS[..self.unsent.min(ZEROS.len())]) {
                Ok(sent) => self.unsent -= sent,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// Scheduled times of the requests whose last byte is here now.
    fn receive(&mut self, buffer: &mut [u8]) -> Vec<Instant> {
        let mut done = Vec::new();
        while !self.is_broken {
            match self.stream.read(buffer) {
                Ok(0) => self.is_broken = true,
                Ok(got) => {
                    self.received += got;
                    while self.received >= ANSWER_BYTES {
                        self.received -= ANSWER_BYTES;
                        done.extend(self.waiting.pop_front());
                    }
                    if got < buffer.len() {
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_broken = true,
            }
        }
        done
    }

    fn events(&self) -> PollFlags {
        match self.unsent {
            0 => PollFlags::POLLIN,
            _ => PollFlags::POLLIN | PollFlags::POLLOUT,
        }
    }
}

struct Run {
    /// Neighbours are of different copies: request n goes to connection n modulo their number.
    connections: Vec<Connection>,
    copies: u32,
    schedule: Schedule,
    start: Instant,
    /// What counts is scheduled from here to there.
    measured: (Instant, Instant),
    deadline: Instant,
    latencies: Vec<Duration>,
    lateness: Vec<Duration>,
    /// Answers that came in the measured time, whenever they were asked for.
    answered_meanwhile: u32,
}

#[derive(Clone, Copy)]
enum Schedule {
    /// Seconds between two requests, over all copies: so copies take turns.
    Open {
        gap: f64,
    },
    Closed {
        depth: u32,
    },
}

impl Run {
    fn connect(order: &Order) -> Result<Self, Box<dyn Error>> {
        let copies = u32::try_from(order.copies.len())?;
        let connections = connect_all(order)?;
        let schedule = match order.rate {
            Some(rate) => Schedule::Open {
                gap: 1.0 / (rate * f64::from(copies)),
            },
            None => Schedule::Closed { depth: order.depth },
        };
        let start = Instant::now();
        let from = start + Duration::from_secs_f64(order.warm_up);
        let to = from + Duration::from_secs_f64(order.seconds);
        Ok(Self {
            connections,
            copies,
            schedule,
            start,
            measured: (from, to),
            deadline: to + Duration::from_secs_f64(order.grace),
            latencies: Vec::new(),
            lateness: Vec::new(),
            answered_meanwhile: 0,
        })
    }

    fn go(&mut self) -> Result<(), Box<dyn Error>> {
        let mut buffer = vec![0; 256 << 10];
        let mut number = 0;
        if let Schedule::Closed { depth } = self.schedule {
            for connection in &mut self.connections {
                (0..depth).for_each(|_| connection.request(Instant::now()));
            }
        }
        loop {
            let next = self.send_due(&mut number);
            let now = Instant::now();
            if next.is_none() && (self.is_idle() || now >= self.deadline) {
                return Ok(());
            }
            let until = next.unwrap_or(self.deadline).saturating_duration_since(now);
            for place in self.wait(until)? {
                self.receive(place, &mut buffer);
            }
        }
    }

    /// Sends what its time has come for; when the next one's comes, or none if there is none.
    fn send_due(&mut self, number: &mut u32) -> Option<Instant> {
        let (from, to) = self.measured;
        let Schedule::Open { gap } = self.schedule else {
            return Some(to).filter(|to| *to > Instant::now());
        };
        loop {
            let scheduled = self.start + Duration::from_secs_f64(gap * f64::from(*number));
            if scheduled >= to {
                return None;
            }
            let Some(late) = Instant::now().checked_duration_since(scheduled) else {
                return Some(scheduled);
            };
            if scheduled >= from {
                self.lateness.push(late);
            }
            let place = usize::try_from(*number).unwrap_or(0) % self.connections.len();
            self.connections[place].request(scheduled);
            *number += 1;
        }
    }

    fn is_idle(&self) -> bool {
        self.connections
            .iter()
            .all(|c| c.is_broken || c.waiting.is_empty())
    }

    /// The connections on which something happened.
    fn wait(&self, until: Duration) -> Result<Vec<usize>, Box<dyn Error>> {
        let live = (0..self.connections.len()).filter(|p| !self.connections[*p].is_broken);
        let places: Vec<usize> = live.collect();
        let mut fds: Vec<_> = places
            .iter()
            .map(|p| &self.connections[*p])
            .map(|c| PollFd::new(c.stream.as_fd(), c.events()))
            .collect();
        match ppoll(&mut fds, Some(until.into()), None) {
            Ok(_) => Ok(places
                .into_iter()
                .zip(&fds)
                .filter_map(|(place, fd)| (fd.any() == Some(true)).then_some(place))
                .collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, place: usize, buffer: &mut [u8]) {
        let (from, to) = self.measured;
        let connection = &mut self.connections[place];
        connection.send();
        let answered = connection.receive(buffer);
        let now = Instant::now();
        for scheduled in answered {
            if scheduled >= from {
                self.latencies.push(now - scheduled);
            }
            if now >= to {
                continue;
            }
            self.answered_meanwhile += u32::from(now >= from);
            if matches!(self.schedule, Schedule::Closed { .. }) {
                connection.request(now);
            }
        }
    }

    /// An unanswered request took at least as long as it was waited for: it counts with that.
    fn report(&mut self) -> Value {
        let now = Instant::now();
        let from = self.measured.0;
        let done = self.latencies.len();
        let unanswered = self.connections.iter().flat_map(|c| &c.waiting);
        self.latencies
            .extend(unanswered.filter(|s| **s >= from).map(|s| now - *s));
        let seconds = (self.measured.1 - from).as_secs_f64();
        json!({
            "done": done,
            "lost": self.latencies.len() - done,
            "broken": self.connections.iter().filter(|c| c.is_broken).count(),
            "rate_done": f64::from(self.answered_meanwhile) / seconds / f64::from(self.copies),
            "latency_ms": percentiles(&mut self.latencies),
            "late_ms": percentiles(&mut self.lateness),
        })
    }
}

/// All at once, as each waits for its turn on the guest's busy CPUs.
fn connect_all(order: &Order) -> Result<Vec<Connection>, Box<dyn Error>> {
    thread::scope(|scope| {
        let opening: Vec<_> = (0..order.connections)
            .flat_map(|_| &order.copies)
            .map(|(address, port)| scope.spawn(|| Connection::open((*address, *port).into())))
            .collect();
        opening
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .map_err(|_| "a thread died")?
                    .map_err(Box::from)
            })
            .collect()
    })
}

/// Nearest rank, in milliseconds; null of nothing.
fn percentiles(values: &mut [Duration]) -> Value {
    values.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (values.len() * per_mille).div_ceil(1000).max(1);
        values.get(rank - 1).map(|v| v.as_secs_f64() * 1e3)
    };
    json!({ "p50": at(500), "p90": at(900), "p99": at(990), "p99.9": at(999), "max": at(1000) })
}
