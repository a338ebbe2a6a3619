#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{
    Repetition::{Never, UntilAnswered},
    *,
};
use crate::channel_identity::ClusterKey;
use ashlar_fastpath::steering::{
    Config, ControlAddresses, Effect, Entry, EntryOrNone, Freshness, ReplayWindow, decide,
};
use ashlar_wire::steering::{ControlFrame, ControlKey, FlowKey, MacAddress, OperationCode, Owner};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use tokio::task::JoinSet;

const NODE: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(20);

fn cluster(byte: u8) -> ClusterKey {
    ClusterKey::from_bytes([byte; 32])
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn flow(client_port: u16) -> FlowKey {
    FlowKey::new(loopback(client_port), loopback(80))
}

fn owner(id: u16) -> Owner {
    Owner { mac: MacAddress([2, 0, 0, 0, 0, 1]), id }
}

fn point(client_port: u16, epoch: u64) -> Operation {
    Operation::Point { flow: flow(client_port), owner: owner(client_port), epoch, closing: false }
}

/// What happens to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    LostOnItsWay,
    ReplyLost,
    RefusedAsBusy,
    /// Before the reply come one of another key, one about another flow, and one that is too long.
    AnsweredByOthersFirst,
    /// The table was lost before; it has another incarnation now.
    TableMadeAnew,
    /// Answered after the next request.
    Overtaken,
}

/// Steering in user space, with the very decisions of the kernel program.
struct Steering {
    socket: UdpSocket,
    incarnation: u64,
    window: ReplayWindow,
    table: HashMap<FlowKey, Entry>,
    /// Of the next requests; those behind are answered.
    fates: VecDeque<Fate>,
    held_back: Option<(ControlFrame, SocketAddr)>,
}

fn control_key(cluster_byte: u8) -> ControlKey {
    ControlKey::new(*cluster(cluster_byte).steering_key().as_bytes())
}

impl Steering {
    async fn start(fates: &[Fate]) -> SocketAddr {
        let socket = UdpSocket::bind(loopback(0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let mut steering = Self {
            socket,
            incarnation: 1_000,
            window: ReplayWindow::default(),
            table: HashMap::new(),
            fates: fates.iter().copied().collect(),
            held_back: None,
        };
        tokio::spawn(async move {
            loop {
                steering.serve().await;
            }
        });
        address
    }

    fn key_words(&self, cluster_byte: u8) -> [u64; 2] {
        let control = ControlAddresses { ipv4: None, ipv6: None, port: 0 };
        Config::new(MacAddress::NONE, control, &control_key(cluster_byte), self.incarnation)
            .key_words()
    }

    async fn serve(&mut self) {
        let mut bytes = [0; CONTROL_FRAME_BYTES];
        let (length, client) = self.socket.recv_from(&mut bytes).await.unwrap();
        assert_eq!(length, CONTROL_FRAME_BYTES);
        let mut request = ControlFrame::ZERO;
        for (word, bytes) in request.words_mut().iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().unwrap());
        }
        let fate = self.fates.pop_front().unwrap_or(Fate::Answered);
        if fate == Fate::LostOnItsWay {
            return;
        }
        if fate == Fate::TableMadeAnew {
            self.incarnation += 1;
            self.table.clear();
        }
        let key = self.key_words(1);
        request.check(key).unwrap();
        assert_eq!(request.sender(), NODE);
        let Freshness::Fresh(window) = self.window.accept(request.counter()) else {
            panic!("counter {} came twice", request.counter());
        };
        self.window = window;
        if fate == Fate::AnsweredByOthersFirst {
            self.send_what_is_no_reply(request, client).await;
        }
        let (result, state) = self.carry_out(&request, fate);
        request.turn(result, &state, self.incarnation, key);
        if fate == Fate::Overtaken {
            self.held_back = Some((request, client));
            return;
        }
        if fate != Fate::ReplyLost {
            self.socket.send_to(request.bytes(), client).await.unwrap();
        }
        if let Some((reply, client)) = self.held_back.take() {
            self.socket.send_to(reply.bytes(), client).await.unwrap();
        }
    }

    fn carry_out(&mut self, request: &ControlFrame, fate: Fate) -> (ResultCode, EntryOrNone) {
        if request.incarnation() != self.incarnation {
            return (ResultCode::WrongIncarnation, EntryOrNone::NONE);
        }
        if fate == Fate::RefusedAsBusy {
            return (ResultCode::Busy, EntryOrNone::NONE);
        }
        let flow = request.flow();
        let found =
            self.table.get(&flow).map_or(EntryOrNone::NONE, |entry| EntryOrNone::some(*entry));
        let decision = decide(&found, request, Entry::identity_of(flow.digest()), 1);
        match decision.effect {
            Effect::None => {}
            Effect::Insert | Effect::Update => {
                self.table.insert(flow, decision.after.entry);
            }
            Effect::Remove => {
                self.table.remove(&flow);
            }
        }
        (decision.result, decision.after)
    }

    async fn send_what_is_no_reply(&self, request: ControlFrame, client: SocketAddr) {
        let refusal = |mut reply: ControlFrame, cluster_byte| {
            let key = self.key_words(cluster_byte);
            reply.turn(ResultCode::StaleEpoch, &EntryOrNone::NONE, self.incarnation, key);
            *reply.bytes()
        };
        let forged = refusal(request, 2);
        let about_another_flow = {
            let operation = Operation::Query { flow: flow(9) };
            let (sender, counter) = (request.sender(), request.counter());
            let other =
                ashlar_wire::steering::Request { sender, counter, incarnation: 0, operation };
            refusal(other.seal(&control_key(1)), 1)
        };
        let mut too_long = refusal(request, 1).to_vec();
        too_long.push(0);
        for bytes in [&forged[..], &about_another_flow, &too_long, &request.bytes()[..]] {
            self.socket.send_to(bytes, client).await.unwrap();
        }
    }
}

async fn client() -> SteeringClient {
    let sender = Arc::new(SteeringSender::new(NODE, &cluster(1).steering_key()));
    SteeringClient::bind(loopback(0), sender).await.unwrap()
}

#[tokio::test]
async fn a_flow_is_pointed_asked_about_and_forgotten() {
    let (steering, client) = (Steering::start(&[]).await, client().await);
    let execute = |operation| client.execute(steering, operation, PATIENCE, UntilAnswered);
    let reply = execute(point(1, 5)).await.unwrap();
    assert_eq!((reply.operation, reply.result), (OperationCode::Point, ResultCode::Applied));
    let state = execute(Operation::Query { flow: flow(1) }).await.unwrap().state.unwrap();
    assert_eq!((state.owner, state.epoch), (owner(1), 5));
    assert_eq!(execute(point(1, 4)).await.unwrap().result, ResultCode::StaleEpoch);
    let forget = Operation::Forget { flow: flow(1), epoch: 5 };
    assert_eq!(execute(forget).await.unwrap().result, ResultCode::Applied);
    assert_eq!(execute(forget).await.unwrap().result, ResultCode::UnknownFlow);
    // The first one asked for the table's incarnation, too.
    let counts = client.counts();
    assert!(counts.requests >= 6 && counts.replies >= 6, "{counts:?}");
}

#[tokio::test]
async fn what_is_lost_or_refused_as_busy_is_asked_again() {
    use Fate::{Answered, LostOnItsWay, RefusedAsBusy, ReplyLost};
    let fates = [LostOnItsWay, LostOnItsWay, Answered, RefusedAsBusy, ReplyLost];
    let (steering, client) = (Steering::start(&fates).await, client().await);
    let reply = client.execute(steering, point(1, 5), PATIENCE, UntilAnswered).await.unwrap();
    // It was carried out when its reply was lost.
    assert_eq!(reply.result, ResultCode::Same);
    assert!(client.counts().requests >= 6);
}

#[tokio::test]
async fn a_table_that_was_made_anew_is_pointed_in_as_well() {
    let fates = [Fate::Answered, Fate::Answered, Fate::TableMadeAnew];
    let (steering, client) = (Steering::start(&fates).await, client().await);
    let first = client.execute(steering, point(1, 5), PATIENCE, UntilAnswered).await.unwrap();
    let second = client.execute(steering, point(1, 5), PATIENCE, UntilAnswered).await.unwrap();
    assert_eq!(second.result, ResultCode::Applied);
    assert_eq!(second.incarnation, first.incarnation + 1);
}

#[tokio::test]
async fn what_is_no_reply_is_counted_and_ignored() {
    let fates = [Fate::Answered, Fate::AnsweredByOthersFirst];
    let (steering, client) = (Steering::start(&fates).await, client().await);
    let reply = client.execute(steering, point(1, 5), PATIENCE, UntilAnswered).await.unwrap();
    assert_eq!(reply.result, ResultCode::Applied);
    let counts = client.counts();
    assert_eq!(counts.forged, 1, "of another key");
    assert_eq!(counts.malformed, 2, "too long, and a request that came back");
    assert!(counts.unexpected >= 1, "about another flow");
}

#[tokio::test]
async fn many_requests_get_each_its_own_reply_in_any_order() {
    const REQUESTS: u16 = 4 * OUTSTANDING_MAX as u16;
    let fates: Vec<_> = [Fate::Answered, Fate::Overtaken].into_iter().cycle().take(100).collect();
    let (steering, client) = (Steering::start(&fates).await, Arc::new(client().await));
    let mut requests = JoinSet::new();
    for number in 1..=REQUESTS {
        let client = Arc::clone(&client);
        requests.spawn(async move {
            let reply =
                client.execute(steering, point(number, 1), PATIENCE, UntilAnswered).await.unwrap();
            assert!(matches!(reply.result, ResultCode::Applied | ResultCode::Same));
            assert_eq!(reply.flow, flow(number));
            assert_eq!(reply.state.unwrap().owner, owner(number));
        });
    }
    assert_eq!(requests.join_all().await.len(), usize::from(REQUESTS));
}

#[tokio::test(start_paused = true)]
async fn a_silent_host_is_given_up_at_the_deadline() {
    let nobody = UdpSocket::bind(loopback(0)).await.unwrap();
    let (steering, client) = (nobody.local_addr().unwrap(), client().await);
    let start = Instant::now();
    let deadline = Duration::from_secs(3);
    let error = client.execute(steering, point(1, 5), deadline, UntilAnswered).await.unwrap_err();
    assert_eq!(start.elapsed(), deadline);
    let SteeringClientError::Silent { attempts, .. } = error else { panic!("{error}") };
    // 2, 4, 8, … 64 milliseconds, then every 100.
    assert!((30..=40).contains(&attempts), "{attempts}");
    assert_eq!(client.counts().requests, u64::from(attempts));
    assert!(client.shared.outstanding.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_sent_to_is_told_with_the_reason() {
    let client = client().await;
    let elsewhere = "[::1]:1".parse().unwrap();
    let error = client
        .execute(elsewhere, point(1, 5), Duration::from_secs(1), UntilAnswered)
        .await
        .unwrap_err();
    assert!(matches!(error, SteeringClientError::Send { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_may_be_carried_out_once_is_asked_once() {
    let fates = [Fate::Answered, Fate::RefusedAsBusy, Fate::LostOnItsWay, Fate::Answered];
    let (steering, client) = (Steering::start(&fates).await, client().await);
    // The first copy asks for the table, the second one changes nothing, the third one may be late.
    let deadline = Duration::from_secs(1);
    let error = client.execute(steering, point(1, 5), deadline, Never).await.unwrap_err();
    assert!(matches!(error, SteeringClientError::Silent { attempts: 3, .. }), "{error}");
    let reply = client.execute(steering, point(1, 5), deadline, Never).await.unwrap();
    assert_eq!((reply.result, client.counts().requests), (ResultCode::Applied, 4));
}
