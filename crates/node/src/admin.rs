//! The admin listener: is the process alive, is it ready, what does it count; and what programs in the kernel do for replicas.

use crate::metrics::{self, Registry};
use crate::replication::Offloads;
use crate::threads::{Shutdown, Threads};
use ashlar_replica::Offload;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::json;
use std::{io, net::SocketAddr, sync::Arc};

/// Whether a role can do its work.
pub(crate) trait Health: Send + Sync {
    /// Whether it can, or one line on why not.
    fn ready(&self) -> Result<(), String>;

    /// Whether nothing at all is missing, or one line on what is: a role may be ready while, for
    /// example, one of several replicas is away.
    fn complete(&self) -> Result<(), String> {
        self.ready()
    }
}

/// What the handlers see.
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    /// The roles of the process by name; it is ready when all are.
    pub(crate) roles: Vec<(String, Arc<dyn Health>)>,
    /// What programs in the kernel do for replicas.
    pub(crate) offloads: Offloads,
    /// A draining process must get no new work.
    pub(crate) shutdown: Shutdown,
}

/// Serves `/healthz`, `/readyz`, `/metrics` and `/replication` on `listen` from the first of `threads`, until the
/// threads end. Gives the address that it listens on.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn spawn(listen: SocketAddr, threads: &Threads, admin: Admin) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let admin = Arc::new(admin);
    threads.spawn_background(0, async move {
        let served = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => axum::serve(listener, router(admin)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::error!(%error, "the admin listener stopped");
        }
    });
    Ok(address)
}

fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/replication/offload", get(offloads))
        .route("/replication/{group}/offload", put(switch_offload))
        .with_state(admin)
}

/// 200 if every role is ready and the process does not drain; else 503. Both name the reasons.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let role = |(name, health): &(String, Arc<dyn Health>)| {
        let problem = health.ready().err()?;
        Some((name.clone(), json!(problem)))
    };
    let mut reasons: serde_json::Map<_, _> = admin.roles.iter().filter_map(role).collect();
    if admin.shutdown.is_draining() {
        reasons.insert("process".into(), json!("draining"));
    }
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let answer = json!({ "ready": reasons.is_empty(), "reasons": reasons });
    (status, Json(answer)).into_response()
}

/// What programs in the kernel do for each replica that may use them.
async fn offloads(State(admin): State<Arc<Admin>>) -> Response {
    let names = |offload: Offload| offload.names().collect::<Vec<_>>();
    let all = admin.offloads.list().into_iter();
    let all = all.map(|(group, offload)| json!({ "group": group, "offload": names(offload) }));
    Json(all.collect::<Vec<_>>()).into_response()
}

/// Has programs in the kernel do what the body says for the group's replica: names with commas, none, or all.
async fn switch_offload(
    State(admin): State<Arc<Admin>>,
    Path(group): Path<u32>,
    body: String,
) -> Response {
    let offload: Offload = match body.trim().parse() {
        Ok(offload) => offload,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let offloads = admin.offloads.clone();
    // Loading programs takes a while.
    let switch = tokio::task::spawn_blocking(move || offloads.switch(group, offload));
    match switch.await {
        Ok(Ok(())) => format!("{offload}\n").into_response(),
        Ok(Err(error)) => (StatusCode::CONFLICT, format!("{}\n", error.causes())).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn metrics_text(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let media_type = [(header::CONTENT_TYPE, metrics::TEXT_MEDIA_TYPE)];
    (media_type, metrics::text(&admin.registry))
}
