//! Every byte of a request reaches one application, once and in order.

use crate::handoff::request::Request;
use std::collections::{BTreeMap, VecDeque};

/// The oracle's name.
pub(crate) const NAME: &str = "requests";

/// All requests that clients ever made.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    issued: Vec<Issued>,
    /// For each connection, the number that its next request must have.
    next: BTreeMap<usize, u32>,
}

#[derive(Debug)]
struct Issued {
    request: Request,
    client: usize,
    /// Nothing was asked before it on its connection.
    is_first: bool,
    taken: bool,
}

impl Requests {
    /// A client's connection will bring these, which get their numbers.
    pub(crate) fn issue(&mut self, client: usize, requests: &mut VecDeque<Request>) {
        for (place, request) in requests.iter_mut().enumerate() {
            request.number = self.issued.len() as u32;
            let (request, is_first) = (*request, place == 0);
            self.issued.push(Issued { request, client, is_first, taken: false });
        }
    }

    /// An application has read a whole request and is about to answer.
    pub(crate) fn take(
        &mut self,
        connection: usize,
        client: usize,
        request: &Request,
        bytes: &[u8],
    ) -> Result<(), String> {
        let number = request.number;
        let issued = self.issued.get_mut(number as usize).filter(|issued| issued.client == client);
        let Some(issued) = issued.filter(|issued| issued.request == *request) else {
            return Err(format!("c{client} has never asked {request:?}"));
        };
        if std::mem::replace(&mut issued.taken, true) {
            return Err(format!("request {number} of c{client} is answered twice"));
        }
        let expected = self.next.insert(connection, number + 1);
        let in_order =
            expected.map_or(issued.is_first, |expected| expected == number && !issued.is_first);
        if !in_order {
            return Err(format!("request {number} of c{client} is not its next: {expected:?}"));
        }
        if bytes != request.encode() {
            return Err(format!("the body of request {number} of c{client} is wrong"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issued() -> (Requests, VecDeque<Request>) {
        let request = Request { number: 0, owner: 1, body_bytes: 3, response_bytes: 1 };
        let mut script = VecDeque::from([request, request, request]);
        let mut requests = Requests::default();
        requests.issue(4, &mut script);
        (requests, script)
    }

    #[test]
    fn requests_in_order_are_fine_and_each_is_taken_once() {
        let (mut requests, script) = issued();
        for request in &script {
            assert_eq!(requests.take(9, 4, request, &request.encode()), Ok(()));
        }
        assert!(requests.take(9, 4, &script[2], &script[2].encode()).is_err());
    }

    #[test]
    fn gaps_wrong_bodies_and_strange_requests_are_seen() {
        let (mut requests, script) = issued();
        assert!(requests.take(9, 4, &script[1], &script[1].encode()).is_err());
        let (mut requests, _) = issued();
        assert!(requests.take(9, 4, &script[0], &script[1].encode()).is_err());
        let (mut requests, _) = issued();
        assert!(requests.take(9, 5, &script[0], &script[0].encode()).is_err());
    }
}
