//! The fields on their way out: u and v to a stream, and checkpoints to
//! another, from which a run goes on.
//!
//! Both are put straight from the model's own arrays: a view says which cells,
//! leaving out the ghost layers, and nothing is copied here. What a checkpoint
//! holds does not depend on the number of ranks, so neither does a restart.

use mpi::topology::SimpleCommunicator;
use panta::mpi::MpiComm;
use panta::{Reader, Resume, Shape, Start, Step, StepTime, Var, Writer};

use crate::Failure;
use crate::model::{Model, interior, interior_mut};

/// Writes u and v, step by step.
pub(crate) struct Fields {
    writer: Writer,
    u: Var<f64>,
    v: Var<f64>,
}

impl Fields {
    /// Opens the stream called `name` for the fields of `model`; collective.
    pub(crate) fn open(
        name: &str,
        world: &SimpleCommunicator,
        model: &Model,
        resume: Resume,
    ) -> Result<Self, Failure> {
        let comm = MpiComm::from_communicator(world);
        let mut writer = Writer::options().resume(resume).open(name, comm)?;
        let grid = Shape::global([model.cells() as u64; 3])
            .dims(["z", "y", "x"])
            .unit("1");
        let u = writer.define("u", grid.clone())?;
        let v = writer.define("v", grid)?;
        let parameters = model.parameters();
        for (name, value) in [
            ("Du", parameters.diffusion_u),
            ("Dv", parameters.diffusion_v),
            ("F", parameters.feed),
            ("k", parameters.kill),
            ("dt", parameters.dt),
            ("noise", parameters.noise),
        ] {
            writer.set_attribute(name, value)?;
        }
        writer.set_attribute("seed", parameters.seed)?;
        Ok(Self { writer, u, v })
    }

    /// Writes the state of the model as a step; collective. Returns its number.
    pub(crate) fn write(&mut self, model: &Model) -> Result<u64, Failure> {
        let step = self.writer.begin_step(StepTime::sim(model.time()))?;
        put_fields(&step, self.u, self.v, model)?;
        Ok(step.end()?.step)
    }

    /// Ends the stream; collective.
    pub(crate) fn close(self) -> Result<(), Failure> {
        Ok(self.writer.close()?)
    }
}

fn put_fields<'d>(
    step: &Step<'_, 'd>,
    u: Var<f64>,
    v: Var<f64>,
    model: &'d Model,
) -> Result<(), Failure> {
    let start = model.block().start.map(|index| index as u64);
    step.put(u, &start, interior(&model.u))?;
    step.put(v, &start, interior(&model.v))?;
    Ok(())
}

/// Writes what a run needs to go on.
pub(crate) struct Checkpoints {
    fields: Fields,
    steps_taken: Var<u64>,
    outputs_written: Var<u64>,
}

impl Checkpoints {
    /// Opens the stream of checkpoints called `name`; collective. Those of the
    /// run that this one goes on from are kept.
    pub(crate) fn open(
        name: &str,
        world: &SimpleCommunicator,
        model: &Model,
        resume: Resume,
    ) -> Result<Self, Failure> {
        let mut fields = Fields::open(name, world, model, resume)?;
        let steps_taken = fields.writer.define("steps_taken", Shape::global_value())?;
        let outputs_written = fields
            .writer
            .define("outputs_written", Shape::global_value())?;
        Ok(Self {
            fields,
            steps_taken,
            outputs_written,
        })
    }

    /// Writes a checkpoint; collective.
    pub(crate) fn write(&mut self, model: &Model, outputs_written: u64) -> Result<(), Failure> {
        let Fields { writer, u, v } = &mut self.fields;
        let step = writer.begin_step(StepTime::sim(model.time()))?;
        put_fields(&step, *u, *v, model)?;
        if model.block().start == [0; 3] {
            step.put_value(self.steps_taken, &model.step())?;
            step.put_value(self.outputs_written, &outputs_written)?;
        }
        step.end()?;
        Ok(())
    }

    /// Ends the stream; collective.
    pub(crate) fn close(self) -> Result<(), Failure> {
        self.fields.close()
    }
}

/// Puts the last checkpoint of the stream called `name` into the model, each
/// rank its own block, and returns how many outputs were written before it.
/// Opening is collective, reading is not: the ranks may fail differently.
pub(crate) fn restore(
    name: &str,
    world: &SimpleCommunicator,
    model: &mut Model,
) -> Result<u64, Failure> {
    let comm = MpiComm::from_communicator(world);
    let mut checkpoints = Reader::open(name, comm, Start::Latest)?;
    let Some(step) = checkpoints.next_step()? else {
        return Err(Failure::NoCheckpoint(name.to_owned()));
    };
    let (found, cells) = (step.variable("u")?.shape(), model.cells() as u64);
    if found != [cells; 3] {
        return Err(Failure::OtherGrid { found, cells });
    }
    let start = model.block().start.map(|index| index as u64);
    let count = model.block().count.map(|index| index as u64);
    let mut fields = step.batch();
    fields.get_into("u", (start, count), interior_mut(&mut model.u))?;
    fields.get_into("v", (start, count), interior_mut(&mut model.v))?;
    fields.finish()?;
    model.resume_at(step.get_value("steps_taken")?);
    Ok(step.get_value("outputs_written")?)
}
