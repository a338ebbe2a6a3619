//! Connections that have moved to a storage node: it answers for the objects that it owns, and does
//! for the others what a front end does.

use crate::{
    body::Body,
    front_end::FrontEnd,
    hand_off::HandOff,
    serve::{
        ConnectionInfo, Departure, Place, RequestHead, Service, ShortRequest, Shortcut, Target,
    },
};
use ashlar_object::{ClusterMap, Key, NodeIndex};
use futures_util::future::Either;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use std::{future::Future, sync::Arc};

/// A storage node as the owner of clients' connections.
#[derive(Clone)]
pub(crate) struct Owner<L> {
    /// Answers for the objects here.
    pub(crate) local: L,
    /// Relays what is elsewhere, and moves what is large.
    pub(crate) front: FrontEnd,
    pub(crate) hand_off: Arc<HandOff>,
    pub(crate) map: ClusterMap,
    pub(crate) node: NodeIndex,
}

impl<L: Service> Owner<L> {
    /// Whether this node answers a request itself: reads as a replica, writes as the chain's head.
    fn is_local(&self, method: &str, path: &str) -> bool {
        let Some(key) = Key::from_path(path).ok().filter(|_| path != "/") else { return false };
        let chain = self.map.chain(self.map.partition_of(&key));
        match method {
            "GET" | "HEAD" => chain.contains(&self.node),
            "PUT" | "DELETE" => chain[0] == self.node,
            _ => false,
        }
    }
}

impl<L: Service> Service for Owner<L> {
    async fn call(&self, request: Request<Incoming>, connection: ConnectionInfo) -> Response<Body> {
        if !self.is_local(request.method().as_str(), request.uri().path()) {
            return self.front.call(request, connection).await;
        }
        let id = FrontEnd::request_id(request.headers());
        let mut response = self.local.call(without_ours(request), connection).await;
        let (name, value) = id;
        response.headers_mut().insert(name, value);
        response
    }

    fn short<'s>(
        &'s self,
        request: &ShortRequest<'_>,
        connection: ConnectionInfo,
    ) -> Option<impl Future<Output = Shortcut> + Send + use<'s, L>> {
        let method = if request.to_head { "HEAD" } else { "GET" };
        if !self.is_local(method, request.path) {
            return Some(Either::Left(self.front.short(request, connection)?));
        }
        let line = FrontEnd::request_id_line(request);
        let shortcut = self.local.short(request, connection)?;
        Some(Either::Right(async move {
            match shortcut.await {
                Shortcut::Answer(mut answer) => {
                    answer.lines.extend_from_slice(&line);
                    Shortcut::Answer(answer)
                }
                moved @ Shortcut::Move(_) => moved,
            }
        }))
    }

    fn moves(&self) -> bool {
        true
    }

    fn place(&self, head: &RequestHead<'_>, connection: ConnectionInfo) -> Place {
        let path = head.target.split('?').next().unwrap_or_default();
        if self.is_local(head.method, path) {
            return Place::Here;
        }
        if !self.front.reaches(head.method, path) {
            // The front end may know better, and is the one to refuse.
            return Place::At(Target::Origin);
        }
        self.front.place(head, connection)
    }

    fn refuge(&self, connection: ConnectionInfo) -> Option<Target> {
        self.hand_off.can_return(connection.flow.origin).then_some(Target::Origin)
    }

    async fn depart(
        &self,
        departure: Departure,
        connection: ConnectionInfo,
    ) -> Result<(), Departure> {
        self.hand_off.depart(departure, connection).await
    }

    fn ended(&self, connection: ConnectionInfo) {
        self.hand_off.ended(connection);
    }
}

/// The request without fields that only front ends may send.
fn without_ours(mut request: Request<Incoming>) -> Request<Incoming> {
    let ours = |headers: &HeaderMap| {
        let names = headers.keys().filter(|name| name.as_str().starts_with("x-ashlar-"));
        names.cloned().collect::<Vec<_>>()
    };
    for name in ours(request.headers()) {
        request.headers_mut().remove(name);
    }
    request
}
