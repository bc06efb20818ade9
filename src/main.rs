//! temporary
use mcp_ferry::{config::Config, server::Bound};
#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let get = |n: &str| args.iter().position(|a| a == n).map(|i| args[i + 1].clone());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut c = Config::for_upstream(get("--upstream").unwrap().parse().unwrap());
    if let Some(l) = get("--listen") { c.listen = vec![l.parse().unwrap()]; }
    let b = match Bound::bind(c).await { Ok(b) => b, Err(e) => { eprintln!("error: {e}"); std::process::exit(1) } };
    eprintln!("listening on http://{}", b.addresses()[0]);
    b.serve(async {
        let mut t = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        t.recv().await;
    }).await;
}
