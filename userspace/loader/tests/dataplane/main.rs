// cfg(test) tells clippy that helpers may unwrap, as tests do.
#[cfg(test)]
mod bind;
#[cfg(test)]
mod counts;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod lan;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod masquerade;
#[cfg(test)]
mod measure;
#[cfg(test)]
mod node;
#[cfg(test)]
mod nodeport;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod server;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod source_ranges;
