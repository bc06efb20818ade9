//! Legacy clients with calls in flight: posts go out on keep-alive connections, answers come on each client's stream
//! and are told apart by their ids.

use crate::fail;
use crate::window::{Plan, Window, Worker, measure};
use rig::client::{Connection, EventStream, Url};
use rig::message::{self, INITIALIZED, LEGACY};
use rig::{Context, Result};
use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub async fn run(plan: &Plan) -> Result<String> {
    let window = Rc::new(Window::default());
    let mut workers = Vec::<Worker>::new();
    for index in 0..plan.connections {
        let mut client = Client::open(&plan.url, index).await?;
        let mut connection = Connection::open(plan.url.address, 0).await?;
        client
            .initialize(&mut connection)
            .await
            .context("initialize")?;
        client
            .list_tools(&mut connection)
            .await
            .context("tools/list")?;
        let waiting = Rc::new(RefCell::new(Vec::new()));
        for slot in 0..plan.in_flight {
            waiting.borrow_mut().push(Slot::default());
            // The first caller goes on with the connection that has initialized.
            let connection = match slot {
                0 => std::mem::replace(
                    &mut connection,
                    Connection::open(plan.url.address, 0).await?,
                ),
                _ => Connection::open(plan.url.address, 0).await?,
            };
            workers.push(Box::pin(caller(
                Rc::clone(&window),
                Rc::clone(&waiting),
                Caller {
                    connection,
                    client: index,
                    slot,
                    slots: plan.in_flight,
                    prefix: client.prefix.clone(),
                },
            )));
        }
        tokio::task::spawn_local(async move {
            loop {
                if let Err(error) = client.take_answer(&waiting).await {
                    fail(&error);
                }
            }
        });
    }
    measure(plan, &window, workers).await
}

/// What one caller waits for. The caller of slot `s` uses the ids `s, s + slots, s + 2 × slots …`.
#[derive(Default)]
struct Slot {
    /// The one right answer; empty while nothing is asked.
    expected: Vec<u8>,
    answered: bool,
    waker: Option<Waker>,
}

struct Caller {
    connection: Connection,
    client: usize,
    slot: usize,
    slots: usize,
    prefix: Vec<u8>,
}

async fn caller(window: Rc<Window>, waiting: Rc<RefCell<Vec<Slot>>>, mut caller: Caller) {
    let (mut body, mut request, mut reply) = (Vec::new(), Vec::new(), Vec::new());
    // Id 0 was initialize's.
    let mut id = (caller.slots + caller.slot) as u64;
    while let Some(begun) = window.begin() {
        body.clear();
        message::call(&mut body, caller.client, id);
        message::post(&mut request, &caller.prefix, &body);
        {
            let slot = &mut waiting.borrow_mut()[caller.slot];
            slot.answered = false;
            message::answer(&mut slot.expected, caller.client, id);
        }
        if let Err(error) = accepted(&mut caller.connection, &request, &mut reply).await {
            fail(&error);
        }
        poll_fn(|context| {
            let slot = &mut waiting.borrow_mut()[caller.slot];
            if slot.answered {
                return Poll::Ready(());
            }
            slot.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        window.end(begun);
        id += caller.slots as u64;
    }
}

/// Posts and wants `202 Accepted`.
async fn accepted(connection: &mut Connection, request: &[u8], reply: &mut Vec<u8>) -> Result<()> {
    let head = connection.exchange(request, reply).await?;
    if head.status == 202 && reply == b"Accepted" {
        return Ok(());
    }
    Err(format!(
        "the POST was answered {} {}",
        head.status,
        String::from_utf8_lossy(reply)
    ))
}

/// One legacy client: its stream, and where it posts.
pub struct Client {
    stream: EventStream,
    index: usize,
    pub prefix: Vec<u8>,
}

impl Client {
    /// Opens the stream and reads the endpoint.
    pub async fn open(url: &Url, index: usize) -> Result<Self> {
        let mut stream = EventStream::open(url, index)
            .await
            .context("open the stream")?;
        let path = stream
            .event(|event| match event.name {
                b"endpoint" => String::from_utf8(event.data.to_vec()).context("endpoint"),
                name => Err(format!(
                    "the first event is {:?}",
                    String::from_utf8_lossy(name)
                )),
            })
            .await?;
        let prefix = message::post_prefix(
            &Url {
                address: url.address,
                path,
            },
            "*/*",
            None,
        );
        Ok(Self {
            stream,
            index,
            prefix,
        })
    }

    /// The handshake, on some connection to post on.
    pub async fn initialize(&mut self, posting: &mut Connection) -> Result<()> {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        message::post(&mut request, &self.prefix, &message::initialize(LEGACY));
        accepted(posting, &request, &mut reply).await?;
        self.stream
            .event(|event| message::check_initialize(event.data, LEGACY))
            .await?;
        message::post(&mut request, &self.prefix, INITIALIZED);
        accepted(posting, &request, &mut reply).await
    }

    /// What clients do before they call a tool.
    async fn list_tools(&mut self, posting: &mut Connection) -> Result<()> {
        const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":0,"result":{"tools":[]}}"#;
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let body = br#"{"jsonrpc":"2.0","id":0,"method":"tools/list"}"#;
        message::post(&mut request, &self.prefix, body);
        accepted(posting, &request, &mut reply).await?;
        let check = |got: &[u8]| match got == ANSWER {
            true => Ok(()),
            false => Err(wrong(got, ANSWER)),
        };
        self.stream.event(|event| check(event.data)).await
    }

    /// One call with nothing else in flight.
    pub async fn call(&mut self, posting: &mut Connection, id: u64) -> Result<()> {
        let (mut body, mut request, mut reply) = (Vec::new(), Vec::new(), Vec::new());
        message::call(&mut body, self.index, id);
        message::post(&mut request, &self.prefix, &body);
        accepted(posting, &request, &mut reply).await?;
        body.clear();
        message::answer(&mut body, self.index, id);
        self.stream
            .event(|event| {
                if event.data == body {
                    Ok(())
                } else {
                    Err(wrong(event.data, &body))
                }
            })
            .await
    }

    /// Gives buffers back before a long idle time.
    pub fn rest(&mut self) {
        self.stream.rest();
    }

    async fn take_answer(&mut self, waiting: &RefCell<Vec<Slot>>) -> Result<()> {
        self.stream
            .event(|event| {
                if event.name != b"message" {
                    return Err(format!(
                        "an event named {:?}",
                        String::from_utf8_lossy(event.name)
                    ));
                }
                let mut waiting = waiting.borrow_mut();
                let slots = waiting.len() as u64;
                let slot = &mut waiting[(message::answered_id(event.data)? % slots) as usize];
                if event.data != slot.expected {
                    return Err(wrong(event.data, &slot.expected));
                }
                // Emptied, so that a second answer is a wrong one.
                slot.expected.clear();
                slot.answered = true;
                if let Some(waker) = slot.waker.take() {
                    waker.wake();
                }
                Ok(())
            })
            .await
    }
}

fn wrong(got: &[u8], want: &[u8]) -> String {
    format!(
        "the stream brought {}\nand not {}",
        String::from_utf8_lossy(got),
        String::from_utf8_lossy(want)
    )
}
