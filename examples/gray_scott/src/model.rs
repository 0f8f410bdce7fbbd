//! The Gray-Scott reaction-diffusion system on one block of a periodic grid
//! (J. E. Pearson, *Complex Patterns in a Simple System*, Science 261, 1993).
//!
//! ```text
//! ∂u/∂t = Du ∇²u − u v² + F (1 − u) + noise
//! ∂v/∂t = Dv ∇²v + u v² − (F + k) v
//! ```
//!
//! ∇² is the mean of the six neighbours less the cell; time goes forward in
//! Euler steps. A block carries one layer of ghost cells, which its owner must
//! fill from the neighbours before each step.
//!
//! A cell's next value depends on nothing but its neighbours' values and
//! (seed, step, global index), in a fixed order of operations, so results are
//! bit-identical however the grid is cut.

#![allow(
    clippy::reversed_empty_ranges,
    reason = "ndarray counts negative indices from the end"
)]

use ndarray::{Array3, ArrayView3, ArrayViewMut3, s};

use crate::split::Block;

/// The numbers of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameters {
    /// Diffusion of u, in cells² per time.
    pub(crate) diffusion_u: f64,
    /// Diffusion of v, in cells² per time.
    pub(crate) diffusion_v: f64,
    /// Feed rate F of u, per time.
    pub(crate) feed: f64,
    /// Kill rate k of v, per time.
    pub(crate) kill: f64,
    /// Length of a time step.
    pub(crate) dt: f64,
    /// Amplitude of the noise added to ∂u/∂t.
    pub(crate) noise: f64,
    /// Picks the noise.
    pub(crate) seed: u64,
}

/// u and v on one block with its ghost layer, and the room for their successors.
pub(crate) struct Model {
    parameters: Parameters,
    /// Cells along a side of the whole grid.
    cells: usize,
    block: Block,
    /// Steps taken since the initial state.
    step: u64,
    pub(crate) u: Array3<f64>,
    pub(crate) v: Array3<f64>,
    next_u: Array3<f64>,
    next_v: Array3<f64>,
}

/// The cells of `field` without its ghost layer: a view, not a copy.
pub(crate) fn interior(field: &Array3<f64>) -> ArrayView3<'_, f64> {
    field.slice(s![1..-1, 1..-1, 1..-1])
}

/// The same, to be written to.
pub(crate) fn interior_mut(field: &mut Array3<f64>) -> ArrayViewMut3<'_, f64> {
    field.slice_mut(s![1..-1, 1..-1, 1..-1])
}

impl Model {
    /// The initial state: u = 1 and v = 0, but for a cube in the centre.
    pub(crate) fn new(parameters: Parameters, cells: usize, block: Block) -> Self {
        let ghosted = block.count.map(|count| count + 2);
        let (mut u, mut v) = (Array3::ones(ghosted), Array3::zeros(ghosted));
        // A smaller cube would diffuse away.
        let half = (cells / 10).max(4).min(cells / 2);
        let centre = cells / 2 - half..cells / 2 + half;
        for ((z, y, x), value) in interior_mut(&mut v).indexed_iter_mut() {
            let at = [z + block.start[0], y + block.start[1], x + block.start[2]];
            if at.iter().all(|index| centre.contains(index)) {
                *value = 0.33;
                u[[z + 1, y + 1, x + 1]] = 0.25;
            }
        }
        let (next_u, next_v) = (Array3::zeros(ghosted), Array3::zeros(ghosted));
        Self {
            parameters,
            cells,
            block,
            step: 0,
            u,
            v,
            next_u,
            next_v,
        }
    }

    /// Goes on from `step`, as a restart does; u and v are then to be filled.
    pub(crate) fn resume_at(&mut self, step: u64) {
        self.step = step;
    }

    pub(crate) fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Cells along each side of the whole grid.
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    pub(crate) fn step(&self) -> u64 {
        self.step
    }

    /// The time reached, in the units of `dt`.
    pub(crate) fn time(&self) -> f64 {
        self.step as f64 * self.parameters.dt
    }

    pub(crate) fn block(&self) -> Block {
        self.block
    }

    /// Takes one step. The ghost layers of u and v must be current.
    pub(crate) fn advance(&mut self) {
        let [nz, ny, _] = self.block.count;
        let at_step = mix(self.parameters.seed ^ mix(self.step));
        for z in 1..=nz {
            for y in 1..=ny {
                self.advance_row(z, y, at_step);
            }
        }
        std::mem::swap(&mut self.u, &mut self.next_u);
        std::mem::swap(&mut self.v, &mut self.next_v);
        self.step += 1;
    }

    fn advance_row(&mut self, z: usize, y: usize, at_step: u64) {
        let Parameters {
            diffusion_u,
            diffusion_v,
            feed,
            kill,
            dt,
            noise,
            ..
        } = self.parameters;
        let [_, ny, nx] = self.block.count.map(|count| count + 2);
        let row = |z: usize, y: usize| (z * ny + y) * nx..(z * ny + y) * nx + nx;
        let around = [
            row(z, y),
            row(z, y - 1),
            row(z, y + 1),
            row(z - 1, y),
            row(z + 1, y),
        ];
        let (u, v) = (flat(&self.u), flat(&self.v));
        let [u, u_south, u_north, u_below, u_above] = around.clone().map(|range| &u[range]);
        let [v, v_south, v_north, v_below, v_above] = around.map(|range| &v[range]);
        let next_u = &mut flat_mut(&mut self.next_u)[row(z, y)];
        let next_v = &mut flat_mut(&mut self.next_v)[row(z, y)];
        let first = ((self.block.start[0] + z - 1) * self.cells + self.block.start[1] + y - 1)
            * self.cells
            + self.block.start[2];
        for x in 1..nx - 1 {
            let sum_u = u[x - 1] + u[x + 1] + u_south[x] + u_north[x] + u_below[x] + u_above[x];
            let sum_v = v[x - 1] + v[x + 1] + v_south[x] + v_north[x] + v_below[x] + v_above[x];
            let (laplace_u, laplace_v) = (sum_u / 6.0 - u[x], sum_v / 6.0 - v[x]);
            let reaction = u[x] * v[x] * v[x];
            let random = noise * unit(mix(at_step ^ (first + x - 1) as u64));
            let rate_u = diffusion_u * laplace_u - reaction + feed * (1.0 - u[x]) + random;
            let rate_v = diffusion_v * laplace_v + reaction - (feed + kill) * v[x];
            next_u[x] = u[x] + dt * rate_u;
            next_v[x] = v[x] + dt * rate_v;
        }
    }

    /// A number that changes if any bit of any cell does; over several blocks
    /// the (wrapping) sum of theirs is that of the whole grid.
    pub(crate) fn checksum(&self) -> u64 {
        let [z0, y0, x0] = self.block.start;
        let mut sum = 0_u64;
        for ((z, y, x), &u) in interior(&self.u).indexed_iter() {
            let v = self.v[[z + 1, y + 1, x + 1]];
            let index = ((z + z0) * self.cells + y + y0) * self.cells + x + x0;
            let cell = mix(mix(index as u64 ^ mix(u.to_bits())) ^ v.to_bits());
            sum = sum.wrapping_add(cell);
        }
        sum
    }
}

#[expect(
    clippy::expect_used,
    reason = "the fields are made in standard layout and stay so"
)]
fn flat(field: &Array3<f64>) -> &[f64] {
    field.as_slice().expect("a field in standard layout")
}

#[expect(
    clippy::expect_used,
    reason = "the fields are made in standard layout and stay so"
)]
fn flat_mut(field: &mut Array3<f64>) -> &mut [f64] {
    field.as_slice_mut().expect("a field in standard layout")
}

/// A bijection on 64 bits under which neighbouring inputs have unrelated
/// outputs: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 53 bits of `hash` as a number in [-1, 1).
fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 * (2.0 / (1_u64 << 53) as f64) - 1.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::split;

    const PARAMETERS: Parameters = Parameters {
        diffusion_u: 0.2,
        diffusion_v: 0.1,
        feed: 0.02,
        kill: 0.048,
        dt: 1.0,
        noise: 0.01,
        seed: 7,
    };

    /// Runs `blocks` side by side, ghost cells filled from an assembled grid.
    fn run(cells: usize, ranks: [usize; 3], steps: u64) -> (Array3<f64>, u64) {
        let mut models = Vec::new();
        for z in 0..ranks[0] {
            for y in 0..ranks[1] {
                for x in 0..ranks[2] {
                    let block = split::block(cells, ranks, [z, y, x]).unwrap();
                    models.push(Model::new(PARAMETERS, cells, block));
                }
            }
        }
        for _ in 0..steps {
            let whole = (
                assemble(cells, &models, |m| &m.u),
                assemble(cells, &models, |m| &m.v),
            );
            for model in &mut models {
                let start = model.block.start;
                fill_ghosts(&mut model.u, start, &whole.0);
                fill_ghosts(&mut model.v, start, &whole.1);
                model.advance();
            }
        }
        let sum = models
            .iter()
            .map(Model::checksum)
            .fold(0, u64::wrapping_add);
        (assemble(cells, &models, |m| &m.v), sum)
    }

    fn assemble(cells: usize, models: &[Model], field: fn(&Model) -> &Array3<f64>) -> Array3<f64> {
        let mut whole = Array3::zeros([cells; 3]);
        for model in models {
            for ((z, y, x), &value) in interior(field(model)).indexed_iter() {
                let [z0, y0, x0] = model.block.start;
                whole[[z + z0, y + y0, x + x0]] = value;
            }
        }
        whole
    }

    fn fill_ghosts(field: &mut Array3<f64>, start: [usize; 3], whole: &Array3<f64>) {
        let cells = whole.dim().0;
        for ((z, y, x), value) in field.indexed_iter_mut() {
            let at = |index: usize, axis: usize| (index + start[axis] + cells - 1) % cells;
            *value = whole[[at(z, 0), at(y, 1), at(x, 2)]];
        }
    }

    #[test]
    fn results_are_bit_identical_however_the_grid_is_cut() {
        let (whole, sum) = run(11, [1, 1, 1], 20);
        for ranks in [[2, 1, 1], [2, 2, 1], [3, 2, 5]] {
            let (cut, cut_sum) = run(11, ranks, 20);
            assert_eq!(whole, cut, "{ranks:?}");
            assert_eq!(sum, cut_sum, "{ranks:?}");
        }
    }

    #[test]
    fn the_reaction_spreads_from_the_cube_and_stays_bounded() {
        let (v, _) = run(16, [1, 1, 1], 200);
        assert!(v.iter().all(|value| (-0.1..1.1).contains(value)));
        assert!(v[[8, 8, 11]] > 0.05, "v has not spread: {}", v[[8, 8, 11]]);
    }

    #[test]
    fn another_seed_gives_other_fields() {
        let block = split::block(8, [1, 1, 1], [0, 0, 0]).unwrap();
        let mut one = Model::new(PARAMETERS, 8, block);
        let mut other = Model::new(
            Parameters {
                seed: 8,
                ..PARAMETERS
            },
            8,
            block,
        );
        assert_eq!(one.checksum(), other.checksum());
        one.advance();
        other.advance();
        assert_ne!(one.checksum(), other.checksum());
    }

    #[test]
    fn noise_is_centred_and_fills_its_range() {
        let values: Vec<f64> = (0..10_000).map(|index| unit(mix(index))).collect();
        let mean = values.iter().sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!(values.iter().all(|value| (-1.0..1.0).contains(value)));
        assert!(values.iter().any(|value| *value > 0.99));
        assert!(values.iter().any(|value| *value < -0.99));
    }
}
