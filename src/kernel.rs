//! The kernels: their one list, and what follows from it.
//!
//! A kernel is a folder. `schedule.rs` says which problems it can run and how well, how it cuts its
//! loops and an output into parts, and what scratch memory it needs; the file beside the folder tells
//! its story and walks over the pixels; the rest are its loops.

pub(crate) mod activate;
pub(crate) mod bias;
pub(crate) mod bodies;
mod caches;
pub(crate) mod call;
mod channels;
mod columns;
mod dense;
pub(crate) mod finish;
mod fit;
mod functions;
pub(crate) mod held;
pub(crate) mod part;
mod pixels;
mod planes;
pub(crate) mod residual;
pub(crate) mod sample;
mod squares;
pub(crate) mod unfold;
pub(crate) mod walk;
pub(crate) mod weave;
mod weights;

pub(crate) use caches::Caches;

use crate::problem::Problem;
use crate::problem::geometry::Geometry;
use crate::simd::enter::enter;
use crate::simd::facts::Facts;
use bodies::LoopBody;
use call::Call;
use fit::Fit;
use part::{Cut, Part, Wanted};

/// Computes a part of the output.
///
/// # Safety
/// The schedule is that of the call's problem, or of one that has a larger input or fewer pixels, but no
/// fewer than the call's part; the call has the weights that it reads; all else is what [`Call`] vouches
/// for.
pub(crate) type Entry = unsafe fn(&Call, &Schedule);

/// From a list of kernels everything that has to know them all.
macro_rules! kernels {
    ($($(#[$doc:meta])* $name:ident, $module:ident;)*) => {
        /// A way of using the lanes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kernel {
            $($(#[$doc])* $name,)*
        }

        /// How the kernel of a plan runs it.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Schedule {
            $($name($module::Schedule),)*
        }

        impl Kernel {
            /// All there are.
            pub const ALL: [Kernel; [$(Kernel::$name),*].len()] = [$(Kernel::$name),*];

            /// Its name in lower case.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Kernel::$name => stringify!($module),)*
                }
            }

            const fn fit(self, problem: &Problem, unpacked: bool) -> Fit {
                match self {
                    $(Kernel::$name => $module::Schedule::fit(problem, unpacked),)*
                }
            }

            /// Whether it takes weights in PyTorch's order; the others have them packed first.
            pub(crate) const fn reads_unpacked(self) -> bool {
                match self {
                    $(Kernel::$name => $module::Schedule::READS_UNPACKED,)*
                }
            }

            /// For a problem that it [can run](Kernel::can_run).
            pub(crate) const fn schedule(
                self,
                problem: &Problem,
                caches: &Caches,
                unpacked: bool,
            ) -> Schedule {
                match self {
                    $(Kernel::$name => {
                        Schedule::$name($module::Schedule::of(problem, caches, unpacked))
                    })*
                }
            }

            /// [`schedule`](Kernel::schedule) of this kernel alone, as a function for those whose
            /// problems are known when they run.
            pub(crate) const fn scheduler(self) -> fn(&Problem, &Caches, bool) -> Schedule {
                match self {
                    $(Kernel::$name => schedules::$module,)*
                }
            }

            /// The loops in which it spends its time on an instruction set.
            pub fn loop_bodies(self, facts: Facts, visit: &mut dyn FnMut(LoopBody)) {
                match self {
                    $(Kernel::$name => $module::tiling::bodies(facts, visit),)*
                }
            }

            /// A plan holds this function, so that programs whose plans are constants contain the
            /// kernels that these use and no others.
            pub(crate) const fn entry(self) -> Entry {
                match self {
                    $(Kernel::$name => entries::$module,)*
                }
            }
        }

        impl Schedule {
            pub const fn kernel(&self) -> Kernel {
                match self {
                    $(Schedule::$name(_) => Kernel::$name,)*
                }
            }

            /// The elements of scratch memory that a part needs.
            pub const fn scratch_len(&self, geometry: &Geometry) -> usize {
                match self {
                    $(Schedule::$name(schedule) => schedule.scratch_len(geometry),)*
                }
            }

            /// Cuts an output into parts, fewer than wanted where more would be of no use.
            pub fn cut(&self, problem: &Problem, whole: &Part, wanted: Wanted) -> Cut {
                match self {
                    $(Schedule::$name(schedule) => schedule.cut(problem, whole, wanted),)*
                }
            }
        }

        mod schedules {
            $(
                pub fn $module(
                    problem: &super::Problem,
                    caches: &super::Caches,
                    unpacked: bool,
                ) -> super::Schedule {
                    super::Schedule::$name(super::$module::Schedule::of(problem, caches, unpacked))
                }
            )*
        }

        /// The ways in.
        mod entries {
            $(
                /// # Safety
                /// As of [`super::Entry`].
                pub unsafe fn $module(call: &super::Call, schedule: &super::Schedule) {
                    let super::Schedule::$name(schedule) = schedule else {
                        debug_assert!(false, "a schedule of another kernel");
                        return;
                    };
                    call.assert_room(schedule.scratch_len(call.geometry()));
                    // SAFETY: the call vouches that the machine has the instruction set.
                    unsafe {
                        super::enter(call.isa(), super::$module::Walk { call, schedule });
                    }
                }
            )*
        }
    };
}

// Of kernels that suit a problem equally well the first is chosen.
kernels! {
    /// Output channels in the lanes, the input broadcast.
    Dense, dense;
    /// Output channels in the lanes, each lane with an input channel of its own.
    Channels, channels;
    /// Pixels in the lanes, planes copied band by band: depthwise.
    Planes, planes;
    /// Pixels in the lanes, the weights broadcast.
    Pixels, pixels;
}

impl Schedule {
    /// The rows that share what the kernel copies of the input for them: parts of fewer rows copy more.
    pub const fn rows_together(&self) -> usize {
        match self {
            Schedule::Planes(planes) => planes.rows,
            _ => 1,
        }
    }
}

impl Kernel {
    /// Whether it computes the problem at all.
    pub(crate) const fn can_run(self, problem: &Problem, unpacked: bool) -> bool {
        !matches!(self.fit(problem, unpacked), Fit::Cannot)
    }

    /// The one that suits the problem best.
    pub(crate) const fn choose(problem: &Problem, unpacked: bool) -> Kernel {
        let mut best = Kernel::ALL[0];
        let mut at = 1;
        while at < Kernel::ALL.len() {
            let kernel = Kernel::ALL[at];
            if kernel.fit(problem, unpacked) as u8 > best.fit(problem, unpacked) as u8 {
                best = kernel;
            }
            at += 1;
        }
        best
    }
}
