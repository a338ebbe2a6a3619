//! What all simulated worlds have in common: how a run is told what to do, how it goes, and how one that fails is
//! made smaller.

use crate::{
    random::Random,
    report::{self, Report},
    shrink::{Shrink, Shrunk, least},
    trace::{Keep, Trace},
    violation::Violation,
};

/// Whose view the oracles judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Everything: what is seen from outside, and the insides.
    All,
    /// Only what is seen from outside, mostly by clients: shows that they would notice a defect too.
    Clients,
}

/// How to run; `S` are the world's defects.
#[derive(Clone, Copy, Debug)]
pub struct Options<S> {
    /// A defect to put in.
    pub sabotage: Option<S>,
    /// Whose view is judged.
    pub judge: Judge,
    /// What to keep of the trace of a run without violation; one with a violation has at least
    /// its last lines.
    pub keep: Keep,
}

impl<S> Default for Options<S> {
    fn default() -> Self {
        Self { sabotage: None, judge: Judge::All, keep: Keep::Nothing }
    }
}

/// A world. Everything that happens in it follows from its plan and its source of chance.
pub(crate) trait Simulation: Sized {
    type Plan: Shrink;
    type Sabotage: Copy;
    type Coverage;

    /// Draws the plan of a seed from its source of chance.
    fn draw(seed: u64, random: &mut Random) -> Self::Plan;

    /// The world at its first moment.
    fn new(plan: Self::Plan, random: Random, options: Options<Self::Sabotage>) -> Self;

    /// Runs both phases, and the checks at the end.
    fn run(&mut self) -> Result<(), Box<Violation>>;

    /// The world's end.
    fn end(self) -> Ended<Self::Coverage>;
}

/// What is left of a world.
pub(crate) struct Ended<C> {
    pub(crate) plan: String,
    pub(crate) coverage: C,
    pub(crate) virtual_us: u64,
    pub(crate) trace: Trace,
}

/// Runs the world of `seed`.
pub(crate) fn run<W: Simulation>(seed: u64, options: Options<W::Sabotage>) -> Report<W::Coverage> {
    report::explained(options.keep, |keep| {
        let (plan, random) = plan_of::<W>(seed);
        run_plan::<W>(seed, plan, random, Options { keep, ..options })
    })
}

/// Makes the failing run of `seed` smaller as long as the same oracle objects; none if the run does not fail.
pub(crate) fn shrink<W: Simulation>(
    seed: u64,
    options: Options<W::Sabotage>,
    runs_max: u64,
) -> Option<Shrunk<W::Coverage>> {
    let (plan, random) = plan_of::<W>(seed);
    let run = |plan: &W::Plan, chance: u64, keep| {
        // The first one is the seed's own.
        let mut source = random.clone();
        let random = (0..chance).map(|_| source.fork()).last().unwrap_or_else(|| random.clone());
        run_plan::<W>(seed, plan.clone(), random, Options { keep, ..options })
    };
    let oracle = run(&plan, 0, Keep::Nothing).violation?.oracle;
    let fails = |plan: &W::Plan, chance| {
        let violation = run(plan, chance, Keep::Nothing).violation;
        violation.is_some_and(|violation| violation.oracle == oracle)
    };
    let (plan, chance, runs) = least(plan, runs_max, fails);
    Some(Shrunk { report: run(&plan, chance, Keep::All), runs })
}

fn plan_of<W: Simulation>(seed: u64) -> (W::Plan, Random) {
    let mut random = Random::new(seed);
    (W::draw(seed, &mut random), random)
}

fn run_plan<W: Simulation>(
    seed: u64,
    plan: W::Plan,
    random: Random,
    options: Options<W::Sabotage>,
) -> Report<W::Coverage> {
    let mut world = W::new(plan, random, options);
    let violation = report::violation_of(|| world.run());
    let Ended { plan, coverage, virtual_us, trace } = world.end();
    let (trace_hash, trace) = (trace.hash(), trace.into_lines());
    Report { seed, plan, violation, coverage, virtual_us, trace_hash, trace }
}
