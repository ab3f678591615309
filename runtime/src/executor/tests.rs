//! Goal: on real threads, user code cannot tell one executor from the other.

use super::{Executor, ExecutorError, ExecutorOptions, TaskError, polls, spawn_local, yield_now};
use crate::affinity::cores;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::mpsc::channel;
use std::thread;

/// Each of these is a test per executor.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod glommio {
            $(#[test] fn $test() { super::$test(super::Executor::Glommio); })*
        }
        mod portable {
            $(#[test] fn $test() { super::$test(super::Executor::Portable); })*
        }
    };
}

on_both!(
    a_task_gives_its_result_to_the_joiner,
    an_executor_runs_on_its_core_under_its_name,
    a_core_that_does_not_exist_fails_the_launch,
    a_yield_lets_the_others_run_in_turn,
    a_pump_sees_by_the_counter_whether_others_ran,
    a_panic_in_a_task_reaches_its_joiner_and_nobody_else,
    a_panic_in_the_first_future_reaches_the_thread_s_joiner,
    a_detached_task_runs_on,
);

/// Runs `body` on an executor and returns what it returns.
fn run<T, F, Fut>(kind: Executor, body: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (sender, receiver) = channel();
    let options = ExecutorOptions { name: "test".to_owned(), core: None };
    let executor = kind
        .launch(options, || async move {
            sender.send(body().await).expect("the test listens");
        })
        .expect("an executor");
    executor.join().expect("no panic");
    receiver.recv().expect("a result")
}

fn a_task_gives_its_result_to_the_joiner(kind: Executor) {
    assert_eq!(run(kind, || async { spawn_local(async { 7 }).await }), Ok(7));
}

fn an_executor_runs_on_its_core_under_its_name(kind: Executor) {
    let core = *cores().last().expect("a core");
    let (sender, receiver) = channel();
    let options = ExecutorOptions { name: "shard-3".to_owned(), core: Some(core) };
    let executor = kind
        .launch(options, move || async move {
            let name = thread::current().name().map(str::to_owned);
            sender.send((cores(), name)).expect("the test listens");
        })
        .expect("an executor");
    executor.join().expect("no panic");
    assert_eq!(receiver.recv(), Ok((vec![core], Some("shard-3".to_owned()))));
}

fn a_core_that_does_not_exist_fails_the_launch(kind: Executor) {
    let options = ExecutorOptions { name: "test".to_owned(), core: Some(1_000) };
    let error = kind.launch(options, || async {}).expect_err("no such core");
    assert!(matches!(error, ExecutorError::Affinity(_)), "{error}");
}

fn a_yield_lets_the_others_run_in_turn(kind: Executor) {
    let order = run(kind, || async {
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

fn a_pump_sees_by_the_counter_whether_others_ran(kind: Executor) {
    let differences = run(kind, || async {
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

fn a_panic_in_a_task_reaches_its_joiner_and_nobody_else(kind: Executor) {
    let (failed, fine) = run(kind, || async {
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

fn a_panic_in_the_first_future_reaches_the_thread_s_joiner(kind: Executor) {
    let options = ExecutorOptions { name: "test".to_owned(), core: None };
    let executor = kind
        .launch(options, || async {
            yield_now().await;
            panic!("shard {} fell over", 1);
        })
        .expect("an executor");
    let error = executor.join().expect_err("it panicked");
    assert_eq!(error.to_string(), "an executor panicked: shard 1 fell over");
}

fn a_detached_task_runs_on(kind: Executor) {
    let ran = run(kind, || async {
        let ran = Rc::new(RefCell::new(false));
        let inner = Rc::clone(&ran);
        drop(spawn_local(async move { *inner.borrow_mut() = true }));
        yield_now().await;
        yield_now().await;
        ran.take()
    });
    assert!(ran);
}
