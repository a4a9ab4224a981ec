//! The client: `demo ask [--count N | --seconds S] [--timeout S] tcp://HOST:PORT[/path] | udp://HOST:PORT`.
//!
//! Every question is a new connection (or a new socket). Answers go to standard output, failures to standard error, and
//! the last line counts both. A load stops by itself: by its count, or after its seconds.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

const USAGE: &str =
    "usage: demo ask [--count N | --seconds S] [--timeout S] tcp://HOST:PORT[/path] | udp://HOST:PORT";
const TIMEOUT: Duration = Duration::from_secs(3);
const MAX_DATAGRAM_BYTES: usize = 2048;
/// Longer loads are asked for in vain.
const LONGEST: Duration = Duration::from_secs(600);

/// What is asked, and how often.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    target: Target,
    end: End,
    timeout: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Http { host: String, path: String },
    Udp { host: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Count(u64),
    After(Duration),
}

/// Asks, and fails when a question was not answered.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<ExitCode> {
    let plan = parse(arguments)?;
    let (mut answered, mut failed) = (0_u64, 0_u64);
    let started = Instant::now();
    let goes_on = |asked: u64| match plan.end {
        End::Count(count) => asked < count && started.elapsed() < LONGEST,
        End::After(time) => started.elapsed() < time.min(LONGEST),
    };
    while goes_on(answered + failed) {
        match ask(&plan.target, plan.timeout) {
            Ok(answer) => {
                answered += 1;
                println!("{}", answer.trim_end());
            }
            Err(error) => {
                failed += 1;
                eprintln!("after {:.3} s: {error:#}", started.elapsed().as_secs_f64());
            }
        }
    }
    println!("answered {answered} failed {failed}");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan> {
    let (mut target, mut end, mut timeout) = (None, End::Count(1), TIMEOUT);
    while let Some(argument) = arguments.next() {
        let mut number = || -> Result<u64> {
            let value = arguments
                .next()
                .with_context(|| format!("{argument} needs a number"))?;
            value
                .parse()
                .with_context(|| format!("{argument} {value} is not a number"))
        };
        match argument.as_str() {
            "--count" => end = End::Count(number()?),
            "--seconds" => end = End::After(Duration::from_secs(number()?)),
            "--timeout" => timeout = Duration::from_secs(number()?.max(1)),
            url => target = Some(parse_url(url)?),
        }
    }
    let target = target.context(USAGE)?;
    Ok(Plan { target, end, timeout })
}

fn parse_url(url: &str) -> Result<Target> {
    if let Some(host) = url.strip_prefix("udp://") {
        return Ok(Target::Udp {
            host: host.to_owned(),
        });
    }
    let Some(rest) = url.strip_prefix("tcp://") else {
        bail!("{url}: {USAGE}")
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok(Target::Http {
        host: host.to_owned(),
        path: format!("/{path}"),
    })
}

fn ask(target: &Target, timeout: Duration) -> Result<String> {
    match target {
        Target::Http { host, path } => ask_http(resolve(host)?, host, path, timeout),
        Target::Udp { host } => ask_udp(resolve(host)?, timeout),
    }
}

fn resolve(host: &str) -> Result<SocketAddr> {
    let mut addresses = host
        .to_socket_addrs()
        .with_context(|| format!("resolve {host}"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

fn ask_http(address: SocketAddr, host: &str, path: &str, timeout: Duration) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, timeout).context("connect")?;
    stream.set_read_timeout(Some(timeout))?;
    let question = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(question.as_bytes()).context("send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("receive")?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer ends in its head")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200 "), "answered {status:?}");
    Ok(body.to_owned())
}

fn ask_udp(address: SocketAddr, timeout: Duration) -> Result<String> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(timeout))?;
    // Not connected: the address in the answer is checked as an unconnected client sees it.
    socket.send_to(b"ask", address).context("send")?;
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    let (length, from) = socket.recv_from(&mut buffer).context("receive")?;
    ensure!(from == address, "asked {address}, answered by {from}");
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Plan> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn one_question_is_the_default() {
        let plan = parsed("tcp://hello:80/slow/1").unwrap();
        let target = Target::Http {
            host: "hello:80".to_owned(),
            path: "/slow/1".to_owned(),
        };
        assert_eq!(
            plan,
            Plan {
                target,
                end: End::Count(1),
                timeout: TIMEOUT
            }
        );
    }

    #[test]
    fn a_load_has_an_end() {
        assert_eq!(parsed("--count 7 udp://a:1").unwrap().end, End::Count(7));
        assert_eq!(
            parsed("--seconds 7 udp://a:1").unwrap().end,
            End::After(Duration::from_secs(7))
        );
    }

    #[test]
    fn wrong_input_says_what_is_right() {
        assert!(format!("{:#}", parsed("").unwrap_err()).starts_with("usage"));
        assert!(
            format!("{:#}", parsed("--count x udp://a:1").unwrap_err()).contains("--count x is not a number")
        );
        assert!(format!("{:#}", parsed("http://a").unwrap_err()).contains("tcp://HOST:PORT"));
    }
}
