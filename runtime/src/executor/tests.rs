//! Executors on real threads.

use super::{
    Executor, ExecutorError, ExecutorOptions, GlommioExecutor, TaskError, polls, spawn_local,
    yield_now,
};
use crate::affinity::cores;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;

/// Runs `body` on an executor and returns what it returns.
fn run<T, F, Fut>(body: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (sender, receiver) = channel();
    let options = ExecutorOptions { name: "test".to_owned(), core: None };
    let executor = GlommioExecutor
        .launch(options, || async move {
            sender.send(body().await).expect("the test listens");
        })
        .expect("an executor");
    executor.join().expect("no panic");
    receiver.recv().expect("a result")
}

#[test]
fn a_task_gives_its_result_to_the_joiner() {
    assert_eq!(run(|| async { spawn_local(async { 7 }).await }), Ok(7));
}

#[test]
fn an_executor_runs_on_its_core_under_its_name() {
    let core = *cores().last().expect("a core");
    let (sender, receiver) = channel();
    let options = ExecutorOptions { name: "shard-3".to_owned(), core: Some(core) };
    let executor = GlommioExecutor
        .launch(options, move || async move {
            let name = thread::current().name().map(str::to_owned);
            sender.send((cores(), name)).expect("the test listens");
        })
        .expect("an executor");
    executor.join().expect("no panic");
    assert_eq!(receiver.recv(), Ok((vec![core], Some("shard-3".to_owned()))));
}

#[test]
fn a_core_that_does_not_exist_fails_the_launch() {
    let options = ExecutorOptions { name: "test".to_owned(), core: Some(1_000) };
    let error = GlommioExecutor.launch(options, || async {}).expect_err("no such core");
    assert!(matches!(error, ExecutorError::Affinity(_)), "{error}");
}

#[test]
fn a_yield_lets_the_others_run_in_turn() {
    let order = run(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..2)
            .map(|task| {
                let order = Rc::clone(&order);
                spawn_local(async move {
                    for _ in 0..3 {
                        order.borrow_mut().push(task);
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        order.take()
    });
    assert_eq!(order, [0, 1, 0, 1, 0, 1]);
}

#[test]
fn a_pump_sees_by_the_counter_whether_others_ran() {
    let differences = run(|| async {
        let pump = spawn_local(async {
            let mut differences = Vec::new();
            let mut last = polls();
            for turn in 0..6 {
                if turn == 3 {
                    drop(spawn_local(async {}));
                }
                yield_now().await;
                differences.push(polls() - last);
                last = polls();
            }
            differences
        });
        pump.await.expect("no panic")
    });
    assert_eq!(differences, [1, 1, 1, 2, 1, 1]);
}

#[test]
fn a_panic_in_a_task_reaches_its_joiner_and_nobody_else() {
    let (failed, fine) = run(|| async {
        let failing = spawn_local(async {
            yield_now().await;
            assert_eq!(polls(), 0, "the worm has turned");
        });
        let fine = spawn_local(async {
            yield_now().await;
            yield_now().await;
            5
        });
        (failing.await, fine.await)
    });
    assert_eq!(fine, Ok(5));
    let Err(TaskError::Panicked { message }) = failed else { panic!("{failed:?}") };
    assert!(message.contains("the worm has turned"), "{message}");
}

#[test]
fn a_panic_in_the_first_future_reaches_the_thread_s_joiner() {
    let options = ExecutorOptions { name: "test".to_owned(), core: None };
    let executor = GlommioExecutor
        .launch(options, || async {
            yield_now().await;
            panic!("shard {} fell over", 1);
        })
        .expect("an executor");
    let error = executor.join().expect_err("it panicked");
    assert_eq!(error.to_string(), "an executor panicked: shard 1 fell over");
}

#[test]
fn a_detached_task_runs_on() {
    let ran = run(|| async {
        let ran = Rc::new(RefCell::new(false));
        let inner = Rc::clone(&ran);
        drop(spawn_local(async move { *inner.borrow_mut() = true }));
        yield_now().await;
        yield_now().await;
        ran.take()
    });
    assert!(ran);
}
