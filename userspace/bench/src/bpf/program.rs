//! A program that is attached, and what the kernel counts of it.

use std::os::fd::{AsFd as _, OwnedFd};

use skep_bpf_maps::sys;

use super::{Amount, Measured};
use crate::BenchError;
use crate::bpf::machine::Machine;

pub(super) struct Program<'a> {
    hook: String,
    program: OwnedFd,
    machine: &'a Machine,
}

impl<'a> Program<'a> {
    /// The program behind the pinned link of a hook.
    pub(super) fn open(machine: &'a Machine, hook: &str) -> Result<Self, BenchError> {
        let pin = machine.node.pin_dir().join("links").join(hook);
        let failed = || BenchError::io(format!("open the program of {}", pin.display()));
        let link = sys::object_get(&pin)
            .and_then(|link| link.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
            .map_err(failed())?;
        let program = sys::link_info(link.as_fd())
            .and_then(|info| sys::program_by_id(info.program_id))
            .map_err(failed())?;
        Ok(Self {
            hook: hook.to_owned(),
            program,
            machine,
        })
    }

    /// Runs and nanoseconds so far.
    fn counted(&self) -> Result<(u64, u64), BenchError> {
        let info = sys::program_info(self.program.as_fd())
            .map_err(BenchError::io(format!("read the program of {}", self.hook)))?;
        Ok((info.run_count, info.run_time_ns))
    }

    /// Calls `work` once for each batch, and takes the mean time of the runs that it caused.
    pub(super) fn measure(
        &self,
        case: &'static str,
        amount: Amount,
        mut work: impl FnMut(usize) -> Result<(), BenchError>,
    ) -> Result<Measured, BenchError> {
        let mut batches_ns = Vec::with_capacity(amount.batches);
        for batch in 0..amount.batches {
            let (runs_before, time_before) = self.counted()?;
            work(batch)?;
            let (runs, time) = self.counted()?;
            if runs == runs_before {
                return Err(BenchError::Never(format!("{} ran for `{case}`", self.hook)));
            }
            batches_ns.push((time - time_before) as f64 / (runs - runs_before) as f64);
        }
        Ok(Measured {
            hook: self.hook.clone(),
            case,
            batches_ns,
        })
    }

    /// Runs the program `repeat` times on a frame.
    pub(super) fn run(&self, frame: &[u8], repeat: u32) -> Result<sys::TestRun, BenchError> {
        self.machine.netns.run(|| self.run_here(frame, repeat))
    }

    /// Runs the program once on the frame of each port.
    pub(super) fn run_all(
        &self,
        ports: &[u16],
        frame: &(dyn Fn(u16) -> Vec<u8> + Sync),
    ) -> Result<(), BenchError> {
        let run = |port: &u16| self.run_here(&frame(*port), 1).map(|_| ());
        self.machine.netns.run(|| ports.iter().try_for_each(run))
    }

    /// As [`Program::run`], on a thread that is in the namespace already.
    fn run_here(&self, frame: &[u8], repeat: u32) -> Result<sys::TestRun, BenchError> {
        sys::program_test_run(self.program.as_fd(), frame, repeat).map_err(BenchError::io(format!(
            "run the program of {} on a packet",
            self.hook
        )))
    }

    /// A packet that comes out as it went in, repeated by the kernel, without run statistics.
    pub(super) fn repeat(
        &self,
        case: &'static str,
        amount: Amount,
        frame: &[u8],
    ) -> Result<Measured, BenchError> {
        let mut batches_ns = Vec::with_capacity(amount.batches);
        for _ in 0..amount.batches {
            batches_ns.push(self.run(frame, amount.repeat)?.duration_ns.into());
        }
        Ok(Measured {
            hook: self.hook.clone(),
            case,
            batches_ns,
        })
    }
}
