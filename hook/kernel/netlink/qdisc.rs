//! The queue before a device: sch_tbf, as its root.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};
use nix::errno::Errno;

use super::socket::Netlink;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::step::QueueSpec;

/// `TCA_TBF_*`, include/uapi/linux/pkt_sched.h; the crate does not know this queue.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel computes times itself and wants no table of them.
const LINKLAYER_ETHERNET: u8 = 1;

/// Gives a device its queue; it must have none of its own.
///
/// # Errors
/// [`Kind::Unsupported`] without sch_tbf, else when the kernel refuses.
pub fn add(netlink: &Netlink, ifindex: u32, spec: &QueueSpec) -> Result<()> {
    let request = RouteNetlinkMessage::NewQueueDiscipline(message(ifindex, spec));
    match netlink.change(request, NLM_F_CREATE | NLM_F_EXCL) {
        Err(e) if e.is(Errno::ENOENT) => Err(Error::new(
            Kind::Unsupported,
            "this kernel has no queue that keeps a rate (CONFIG_NET_SCH_TBF)",
        )
        .with_hint("remove io.oci-netkit.rate-egress and rate-ingress, or load sch_tbf")),
        other => other.with_context(|| format!("queue of device {ifindex}")),
    }
}

fn message(ifindex: u32, spec: &QueueSpec) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = i32::from_ne_bytes(ifindex.to_ne_bytes());
    message.header.parent = TcHandle::ROOT;
    let option = |kind, bytes| TcOption::Other(DefaultNla::new(kind, bytes));
    message.attributes = vec![
        TcAttribute::Kind("tbf".into()),
        TcAttribute::Options(vec![
            option(TCA_TBF_PARMS, parameters(spec)),
            option(TCA_TBF_RATE64, spec.rate.bytes().to_ne_bytes().to_vec()),
            option(TCA_TBF_BURST, spec.burst_bytes.to_ne_bytes().to_vec()),
        ]),
    ];
    message
}

/// `struct tc_tbf_qopt` with two `struct tc_ratespec`, include/uapi/linux/pkt_sched.h. The bucket
/// is left to `TCA_TBF_BURST`, which is in bytes.
fn parameters(spec: &QueueSpec) -> Vec<u8> {
    let rate = u32::try_from(spec.rate.bytes()).unwrap_or(u32::MAX);
    let mut bytes = vec![0, LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(rate.to_ne_bytes());
    bytes.extend([0; 12]); // no rate of peaks
    bytes.extend(spec.queue_bytes.to_ne_bytes());
    bytes.extend([0; 8]); // buffer, mtu
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_laid_out_as_the_kernel_reads_it() {
        let spec = QueueSpec {
            rate: "10M".parse().unwrap(),
            burst_bytes: 25_000,
            queue_bytes: 125_000,
        };
        let bytes = parameters(&spec);
        assert_eq!(bytes.len(), 36, "struct tc_tbf_qopt");
        assert_eq!(bytes[8..12], 1_250_000u32.to_ne_bytes());
        assert_eq!(bytes[24..28], 125_000u32.to_ne_bytes());
        let message = message(7, &spec);
        assert_eq!(
            (message.header.index, message.header.parent),
            (7, TcHandle::ROOT)
        );
    }
}
