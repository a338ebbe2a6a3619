//! Listings, page by page.

use crate::client::{Call, Client};
use anyhow::Context;
use ashlar_object::list::{Bound, Listed, Page};
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::VecDeque;

/// A page's largest JSON: 1,000 keys of 1,024 bytes, each of which may take six characters, and
/// what goes with them.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// The pages of a listing.
pub(super) struct Pages {
    client: Client,
    prefix: String,
    delimiter: Option<String>,
    /// Where the next page starts.
    from: Option<Bound>,
    ended: bool,
}

/// The objects of a listing.
pub(super) struct Objects {
    pages: Pages,
    page: VecDeque<Listed>,
}

impl Pages {
    /// A listing of the keys that begin with `prefix`, folded at `delimiter` if there is one.
    pub(super) fn new(client: Client, prefix: &str, delimiter: Option<String>) -> Self {
        Self { client, prefix: prefix.into(), delimiter, from: None, ended: false }
    }

    /// The next page; none after the last.
    ///
    /// # Errors
    /// When the store does not give it.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Page>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.fetch().await.with_context(|| format!("cannot list {:?}", self.prefix))?;
        self.from = page.next.clone();
        self.ended = self.from.is_none();
        Ok(Some(page))
    }

    async fn fetch(&self) -> anyhow::Result<Page> {
        let mut target = format!("/?prefix={}", encode(&self.prefix));
        if let Some(delimiter) = &self.delimiter {
            target += &format!("&delimiter={}", encode(delimiter));
        }
        if let Some(from) = &self.from {
            target += &format!("&continuation-token={}", from.to_token());
        }
        let call = Call { method: Method::GET, target, headers: HeaderMap::new() };
        let reply = self.client.send(&call).await?;
        if reply.status() != StatusCode::OK {
            return Err(reply.into_error().await);
        }
        let json = reply.bytes(PAGE_BYTES_MAX).await?;
        serde_json::from_slice(&json).context("the answer is not a listing")
    }
}

impl Objects {
    /// All objects whose keys begin with `prefix`.
    pub(super) fn new(client: Client, prefix: &str) -> Self {
        Self { pages: Pages::new(client, prefix, None), page: VecDeque::new() }
    }

    /// The next object; none after the last.
    ///
    /// # Errors
    /// When the store does not give the page that it is on.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Listed>> {
        // A page may hold nothing and not be the last.
        while self.page.is_empty() {
            match self.pages.next().await? {
                Some(page) => self.page = page.objects.into(),
                None => return Ok(None),
            }
        }
        Ok(self.page.pop_front())
    }
}

fn encode(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}
