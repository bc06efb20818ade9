//! Calls to a Streamable HTTP endpoint: straight to the upstream, through nginx, or through the ferry's pass-through.

use crate::fail;
use crate::window::{Plan, Window, Worker, measure};
use rig::client::Connection;
use rig::message::{self, CURRENT, INITIALIZED};
use rig::{Context, Result};
use std::rc::Rc;

const ACCEPT: &str = "application/json, text/event-stream";

pub async fn run(plan: &Plan) -> Result<String> {
    let window = Rc::new(Window::default());
    let mut workers = Vec::<Worker>::new();
    for index in 0..plan.connections * plan.in_flight {
        let mut caller = Caller::open(plan, index).await.context("initialize")?;
        let window = Rc::clone(&window);
        workers.push(Box::pin(async move {
            let mut id = 0;
            while let Some(begun) = window.begin() {
                id += 1;
                if let Err(error) = caller.call(id).await {
                    fail(&error);
                }
                window.end(begun);
            }
        }));
    }
    measure(plan, &window, workers).await
}

/// One connection with its session, where the upstream gives one.
struct Caller {
    connection: Connection,
    index: usize,
    modern: bool,
    prefix: Vec<u8>,
    body: Vec<u8>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Caller {
    async fn open(plan: &Plan, index: usize) -> Result<Self> {
        let mut connection = Connection::open(plan.url.address, 0).await?;
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        if plan.modern {
            return Ok(Self {
                connection,
                index,
                modern: true,
                prefix: message::modern_prefix(&plan.url, ACCEPT),
                body: Vec::new(),
                request,
                answer,
            });
        }
        let prefix = message::post_prefix(&plan.url, ACCEPT, None);
        message::post(&mut request, &prefix, &message::initialize(CURRENT));
        let head = connection.exchange(&request, &mut answer).await?;
        message::check_initialize(&answer, CURRENT)?;
        let prefix = message::post_prefix(&plan.url, ACCEPT, head.session.as_deref());
        message::post(&mut request, &prefix, INITIALIZED);
        let head = connection.exchange(&request, &mut answer).await?;
        if head.status != 202 {
            return Err(format!(
                "notifications/initialized was answered {}",
                head.status
            ));
        }
        Ok(Self {
            connection,
            index,
            modern: false,
            prefix,
            body: Vec::new(),
            request,
            answer,
        })
    }

    async fn call(&mut self, id: u64) -> Result<()> {
        self.body.clear();
        if self.modern {
            message::modern_call(&mut self.body, self.index, id);
        } else {
            message::call(&mut self.body, self.index, id);
        }
        message::post(&mut self.request, &self.prefix, &self.body);
        let head = self
            .connection
            .exchange(&self.request, &mut self.answer)
            .await?;
        self.body.clear();
        if self.modern {
            message::modern_answer(&mut self.body, self.index, id);
        } else {
            message::answer(&mut self.body, self.index, id);
        }
        if head.status == 200 && self.answer == self.body {
            return Ok(());
        }
        let (got, want) = (
            String::from_utf8_lossy(&self.answer),
            String::from_utf8_lossy(&self.body),
        );
        Err(format!(
            "call {id} was answered {} {got}\nand not 200 {want}",
            head.status
        ))
    }
}
