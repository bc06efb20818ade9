//! temporary
use mcp_ferry::{config::Config, server::Bound};
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |n: &str| {
        args.iter()
            .position(|a| a == n)
            .map(|i| args[i + 1].clone())
    };
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    if args.get(1).map(String::as_str) == Some("demo") {
        let ok = mcp_ferry::demo::run(args.iter().any(|a| a == "--once"), None, async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
        std::process::exit(i32::from(!matches!(ok, Ok(true))));
    }
    let mut c = Config::for_upstream(get("--upstream").unwrap().parse().unwrap());
    if let Some(l) = get("--listen") {
        c.listen = vec![l.parse().unwrap()];
    }
    let b = match Bound::bind(c).await {
        Ok(b) => b,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::exit(1)
        }
    };
    eprintln!("listening on http://{}", b.addresses()[0]);
    b.serve(async {
        let mut t =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        t.recv().await;
    })
    .await;
}
