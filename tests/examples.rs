//! Goal: every example runs to its end as it stands.

#![expect(
    unreachable_pub,
    reason = "an example's main is public so that it can be called from here"
)]

#[path = "../examples/axum_gateway.rs"]
mod axum_gateway;
#[path = "../examples/echo.rs"]
mod echo;
#[path = "../examples/hello.rs"]
mod hello;
#[path = "../examples/request_reply.rs"]
mod request_reply;

#[test]
fn axum_gateway_runs() {
    axum_gateway::main().unwrap();
}

#[test]
fn echo_runs() {
    echo::main().unwrap();
}

#[test]
fn hello_runs() {
    hello::main().unwrap();
}

#[test]
fn request_reply_runs() {
    request_reply::main().unwrap();
}
