//! Cubed inside a server of another runtime: axum on tokio asks a Cubed service, sends to a flow and reads one.
//!
//! `cargo run --example axum_gateway` asks itself three things and ends; with `-- --serve` it goes on serving.
//! `Node`, `Remote` and `RemoteQueue` may be cloned or moved to any thread, and their futures run on any executor.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use cubed::{Capacity, Identity, Node, Outcome, Policy, Remote, RemoteQueue, Shard};
use tokio::sync::oneshot;

const TIMEOUT: Duration = Duration::from_secs(5);

/// What every HTTP request gets: two flows to send to, and what the reader has counted.
#[derive(Clone)]
struct Gateway {
    greet: Remote,
    orders: Remote,
    read: Arc<AtomicU64>,
}

/// Runs the example; tests run it too.
pub fn main() -> Result<(), Box<dyn Error>> {
    let service = greeter()?;
    let node = Node::builder()
        .identity(Identity::generate()?)
        .peer(service.public_key(), service.local_addr())
        .start(async |_: Shard| ())?;
    let gateway = Gateway {
        greet: node.resolve(service.public_key(), "greet")?,
        orders: node.resolve(node.public_key(), "orders")?,
        read: Arc::default(),
    };
    let (told, at) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (server_node, server_gateway) = (node.clone(), gateway.clone());
    let server = thread::spawn(move || serve(&server_node, server_gateway, &told, stopped));
    let at = at.recv()?;
    println!("http://{at}/ask/NAME");
    if std::env::args().any(|argument| argument == "--serve") {
        let _ = server.join();
        return Ok(());
    }
    assert_eq!(ask(at, "GET", "/ask/alice", "")?, "hello alice");
    assert_eq!(ask(at, "POST", "/orders", "one tea")?, "delivered");
    while gateway.read.load(Ordering::Relaxed) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ask(at, "GET", "/read", "")?, "1");
    let _ = stop.send(());
    let ended = server.join().map_err(|_| "the server panicked")?;
    ended.map_err(|error| error.to_string())?;
    for node in [node, service] {
        node.shutdown();
        node.join()?;
    }
    Ok(())
}

/// A Cubed service somewhere else.
fn greeter() -> Result<Node, Box<dyn Error>> {
    let greet = async |shard: Shard| {
        shard.flow("greet").handler(|message, context| {
            let _ = context.reply(&[b"hello ", message.body()].concat());
        })
    };
    let builder = Node::builder().identity(Identity::generate()?).listen("127.0.0.1:0");
    Ok(builder.policy(Policy::open()).start(greet)?)
}

type Ended = Result<(), Box<dyn Error + Send + Sync>>;

/// The HTTP server on its own thread and runtime.
fn serve(
    node: &Node,
    gateway: Gateway,
    told: &std::sync::mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let orders = node.subscribe("orders", Capacity::bytes(1 << 20)).await?;
        tokio::spawn(read(orders, Arc::clone(&gateway.read)));
        let router = Router::new()
            .route("/ask/{name}", get(greet))
            .route("/orders", post(order))
            .route("/read", get(count))
            .with_state(gateway);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        told.send(listener.local_addr()?)?;
        let until = async { drop(stopped.await) };
        axum::serve(listener, router).with_graceful_shutdown(until).await?;
        Ok(())
    })
}

/// A task of tokio's that reads a flow of the node.
async fn read(mut orders: RemoteQueue, read: Arc<AtomicU64>) {
    while let Some(batch) = orders.next_batch().await {
        read.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

async fn greet(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
) -> Result<Bytes, (StatusCode, String)> {
    let reply = gateway.greet.request(name, TIMEOUT).await;
    reply.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
}

async fn order(
    State(gateway): State<Gateway>,
    body: Bytes,
) -> Result<&'static str, (StatusCode, String)> {
    match gateway.orders.send(body).await {
        Ok(Outcome::Delivered) => Ok("delivered"),
        Ok(outcome) => Err((StatusCode::BAD_GATEWAY, outcome.to_string())),
        Err(error) => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

async fn count(State(gateway): State<Gateway>) -> String {
    gateway.read.load(Ordering::Relaxed).to_string()
}

/// One HTTP request, by hand; the body of the answer.
fn ask(at: SocketAddr, method: &str, path: &str, body: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let bytes = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.to_owned())
}
