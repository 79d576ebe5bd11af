//! Rows of a table by their ids.    y[i] = table[ids[i]]
//! Same as PyTorch `F.embedding(ids, table)`, for any number type of the table.
//! Backward: d table[row] = sum of dy[i] over ids[i] = row, always in the order of i: without atomics, so that results
//! repeat bit for bit.

use super::layout::cell_type;
use super::{common, flat_groups, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Kernel, Launch, Program, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor, n_elements};

const BACKWARD: Kernel =
    Kernel::new("embedding", "backward", &[shaders!("embedding_backward"), common::INDEX]);

/// Most places one invocation adds up; what names a row more often is summed in parts, and then the parts.
const MOST_PLACES: usize = 1024;

params! {
    struct Params {
        n: u32,
        cols: u32,
        first_row: u32,
        rows: u32,
        all_rows: u32,
    }
}

params! {
    struct BackwardParams {
        units: u32,
        rows: u32,
    }
}

impl Tensor {
    /// Of this table [n, cols], the rows named by `ids` of a shape: [..] -> [.., cols].
    ///
    /// Errors: [`Error::Shape`] when this is no table, `ids` do not fill `shape`, or an id is not below n.
    pub fn embedding(&self, ids: &[i64], shape: &[usize]) -> Result<Tensor> {
        let (rows, cols) = self.table("embedding")?;
        if n_elements(shape)? != ids.len() {
            return Err(Error::shape("embedding", format!("{shape:?} does not hold {} ids", ids.len())));
        }
        if let Some((at, id)) = ids.iter().enumerate().find(|&(_, &id)| id < 0 || id as u64 >= rows as u64) {
            let detail = format!("wanted ids below {rows}, got {id} at place {at}");
            return Err(Error::shape("embedding", detail));
        }
        // Below 2^32: a tensor has no more elements.
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        let y = self.detach().gather_rows(&Tensor::new(self.gpu(), shape, &ids)?)?;
        if !self.wants_gradient() {
            return Ok(y);
        }
        Ok(y.made_by([self], move |_, dy| {
            let _op = dy.gpu().op(|| format!("embedding backward {dy} -> {rows}"));
            Ok([Some(dy.reshape(&[ids.len(), cols])?.sum_by_ids(&ids, rows)?)])
        }))
    }

    /// The same with ids that are on the device already, where nobody can check them: a row of zeros stands for
    /// each id that is out of range.
    ///
    /// Errors: [`Error::Shape`] when this is no table or wants a gradient, whose way back sorts ids on the host;
    /// [`Error::DType`] when `ids` are floats.
    pub fn gather_rows(&self, ids: &Tensor) -> Result<Tensor> {
        const OP: &str = "gather_rows";
        let _op = self.gpu().op(|| format!("{OP} {self} {:?}", ids.shape()));
        let (rows, cols) = self.table(OP)?;
        if !matches!(ids.dtype(), DType::I32 | DType::U32) {
            return Err(Error::dtype(OP, format!("wanted ids, got {:?}", ids.dtype())));
        }
        if self.wants_gradient() {
            let detail = "a table that learns wants its ids on the host; use embedding";
            return Err(Error::shape(OP, detail));
        }
        let gpu = self.gpu();
        let y = Tensor::empty(gpu, &[ids.shape(), &[cols]].concat(), self.dtype())?;
        if y.is_empty() {
            return Ok(y);
        }
        if rows == 0 {
            return Tensor::zeros(gpu, y.shape(), self.dtype());
        }
        let row_bytes = cols * self.dtype().bytes();
        // 16 bytes, or the largest power of two that divides a row.
        let cell_bytes = 1 << row_bytes.trailing_zeros().min(4);
        let scalar = if cell_bytes == 2 { Scalar::F16 } else { Scalar::F32 };
        let variant = Variant { scalar, width: 4, workgroup: gpu.flat_workgroup() };
        let row_cells = row_bytes / cell_bytes;
        let tables = gpu.row_windows(OP, rows, &[row_bytes])?;
        for tokens in gpu.row_windows(OP, ids.len(), &[row_bytes, 4])? {
            let n = tokens.len() * row_cells;
            for table in &tables {
                let params = Params {
                    n: n as u32,
                    cols: row_cells as u32,
                    first_row: table.start as u32,
                    rows: table.len() as u32,
                    all_rows: rows as u32,
                };
                gpu.run(&Launch {
                    program: Program::generated("embedding", "forward", variant, cell_bytes as u64, &|| {
                        text(cell_bytes)
                    }),
                    params: params.as_bytes(),
                    inputs: &[self.window(table.start * cols..table.end * cols), ids.window(tokens.clone())],
                    outputs: &[y.window(tokens.start * cols..tokens.end * cols)],
                    groups: flat_groups(gpu, OP, n)?,
                    work: Work { flops: 0, bytes: (2 * n * cell_bytes + 4 * tokens.len()) as u64 },
                })?;
            }
        }
        Ok(y)
    }

    /// Of this [n, cols] and an id below `rows` for each of its rows: the sum of those of one id, [rows, cols].
    fn sum_by_ids(&self, ids: &[u32], rows: usize) -> Result<Tensor> {
        let (n, cols) = self.table("embedding")?;
        if n == 0 || rows == 0 || cols == 0 {
            return Tensor::zeros(self.gpu(), &[rows, cols], self.dtype());
        }
        // Rows of dy that fit a binding, one after the other.
        let mut sum: Option<Tensor> = None;
        for tokens in self.gpu().row_windows("embedding", n, &[cols * self.dtype().bytes(), 4])? {
            let window =
                if tokens.len() == n { self.clone() } else { self.narrow(0, tokens.start, tokens.len())? };
            let own = window.sum_of_window(&ids[tokens], rows)?;
            sum = Some(match sum {
                Some(before) => before.add(&own)?,
                None => own,
            });
        }
        sum.map_or_else(|| Tensor::zeros(self.gpu(), &[rows, cols], self.dtype()), Ok)
    }

    fn sum_of_window(&self, ids: &[u32], rows: usize) -> Result<Tensor> {
        let mut places: Vec<u32> = (0..ids.len() as u32).collect();
        places.sort_by_key(|&place| ids[place as usize]); // stable: places of a row stay in order
        let mut counts = vec![0_usize; rows];
        ids.iter().for_each(|&id| counts[id as usize] += 1);
        if counts.iter().all(|&count| count <= MOST_PLACES) {
            return self.sum_runs(&places, &counts);
        }
        // Parts of a row become rows of their own, whose ids are the row's; in f32 until the last sum.
        let parts = |count: usize| (0..count).step_by(MOST_PLACES).map(move |at| MOST_PLACES.min(count - at));
        let lengths: Vec<usize> = counts.iter().flat_map(|&count| parts(count)).collect();
        let owners: Vec<u32> = (0..rows as u32)
            .flat_map(|row| std::iter::repeat_n(row, counts[row as usize].div_ceil(MOST_PLACES)))
            .collect();
        let partial = self.cast(DType::F32)?.sum_runs(&places, &lengths)?;
        partial.sum_by_ids(&owners, rows)?.cast(self.dtype())
    }

    /// Row r of the result is the sum of the next `lengths[r]` of the `places`, which are rows of this [n, cols].
    fn sum_runs(&self, places: &[u32], lengths: &[usize]) -> Result<Tensor> {
        let (gpu, cols, size) = (self.gpu(), self.dim(0), self.dtype().bytes());
        let mut starts = vec![0_u32];
        starts.extend(lengths.iter().scan(0, |end, &length| {
            *end += length as u32;
            Some(*end)
        }));
        let places = Tensor::new(gpu, &[places.len()], places)?;
        let starts = Tensor::new(gpu, &[starts.len()], &starts)?;
        let y = Tensor::empty(gpu, &[lengths.len(), cols], self.dtype())?;
        let width = super::width_of(cols);
        let variant = Variant { scalar: self.scalar("embedding")?, width, workgroup: gpu.flat_workgroup() };
        let units = cols / width as usize;
        // Of `starts` a row takes two.
        for rows in gpu.row_windows("embedding", lengths.len(), &[cols * size, 8])? {
            let params = BackwardParams { units: units as u32, rows: rows.len() as u32 };
            let invocations = (rows.len() * units) as u64;
            gpu.run(&Launch {
                program: BACKWARD.program(variant),
                params: params.as_bytes(),
                inputs: &[self.binding(), places.binding(), starts.window(rows.start..rows.end + 1)],
                outputs: &[y.window(rows.start * cols..rows.end * cols)],
                groups: gpu.grid("embedding", invocations.div_ceil(u64::from(variant.workgroup)))?,
                work: Work {
                    flops: self.len() as u64,
                    bytes: self.bytes() + (rows.len() * cols * size) as u64,
                },
            })?;
        }
        Ok(y)
    }

    /// Rows and columns of a table.
    fn table(&self, op: &str) -> Result<(usize, usize)> {
        match *self.shape() {
            [rows, cols] => Ok((rows, cols)),
            _ => Err(Error::shape(op, format!("wanted a table [n, cols], got {:?}", self.shape()))),
        }
    }
}

/// The shader's text for cells of so many bytes.
fn text(cell_bytes: usize) -> String {
    [&format!("alias cell = {};", cell_type(cell_bytes)), shaders!("embedding"), common::INDEX].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, Options};
    use crate::testing::{assert_close, assert_gradients, gpu, gpu_with, random_from, validate};
    use half::f16;

    fn ids_below(rows: usize, n: usize) -> Vec<i64> {
        let unit = random_from(3, n, 0.5);
        let mut ids: Vec<i64> = unit.iter().map(|v| ((v + 0.5) * rows as f32) as i64).collect();
        ids[n - 1] = rows as i64 - 1;
        ids
    }

    fn check(gpu: &Gpu, rows: usize, cols: usize, dtype: DType, ids: &[i64]) {
        let values: Vec<f32> = (0..rows * cols).map(|at| (at % 2039) as f32).collect();
        let table = match dtype {
            DType::F16 => {
                let half: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
                Tensor::new(gpu, &[rows, cols], &half).unwrap()
            }
            _ => Tensor::new(gpu, &[rows, cols], &values).unwrap(),
        };
        let y = table.embedding(ids, &[1, ids.len()]).unwrap();
        assert_eq!((y.shape(), y.dtype()), (&[1, ids.len(), cols][..], dtype));
        let want: Vec<f32> = ids
            .iter()
            .flat_map(|&id| &values[id as usize * cols..(id as usize + 1) * cols])
            .copied()
            .collect();
        assert_eq!(y.to_vec().unwrap(), want, "{rows} {cols} {dtype:?}");
    }

    #[test]
    fn rows_come_by_their_ids() {
        let Some(gpu) = gpu() else { return };
        for cols in [1, 2, 3, 4, 7, 24] {
            check(&gpu, 61, cols, DType::F32, &ids_below(61, 77));
            if cols % 2 == 0 || gpu.facts().features.f16 {
                check(&gpu, 61, cols, DType::F16, &ids_below(61, 77));
            }
        }
        check(&gpu, 1, 5, DType::F32, &[0]);
        check(&gpu, 70_001, 3, DType::F32, &ids_below(70_001, 70_003));
    }

    #[test]
    fn tables_and_results_larger_than_a_binding_go_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check(&gpu, 1000, 12, DType::F32, &ids_below(1000, 300));
        assert!(gpu.counts().dispatches > 12);
    }

    #[test]
    fn ids_on_the_device_that_are_out_of_range_give_zeros() {
        for binding_bytes in [None, Some(256)] {
            let Some(gpu) = gpu_with(Options { binding_bytes, ..Options::default() }) else { return };
            let values: Vec<f32> = (1..=100).map(|v| v as f32).collect();
            let table = Tensor::new(&gpu, &[100, 1], &values).unwrap();
            let ids = Tensor::new(&gpu, &[6], &[0_i32, -1, 99, 100, i32::MAX, 64]).unwrap();
            let y = table.gather_rows(&ids).unwrap();
            assert_eq!(y.to_vec().unwrap(), [1.0, 0.0, 100.0, 0.0, 0.0, 65.0]);
        }
    }

    fn check_gradient(gpu: &Gpu, rows: usize, cols: usize, dtype: DType, ids: &[i64], tolerance: f64) {
        let dy: Vec<f32> = random_from(5, ids.len() * cols, 1.0);
        let rounded = |v: f32| if dtype == DType::F16 { f16::from_f32(v).to_f32() } else { v };
        let dy: Vec<f32> = dy.into_iter().map(rounded).collect();
        let mut want = vec![0.0; rows * cols];
        for (row, &id) in dy.chunks(cols.max(1)).zip(ids) {
            row.iter().enumerate().for_each(|(at, &v)| want[id as usize * cols + at] += f64::from(v));
        }
        let table = Tensor::zeros(gpu, &[rows, cols], dtype).unwrap().parameter();
        let y = table.embedding(ids, &[ids.len()]).unwrap();
        let dy = Tensor::new(gpu, &[ids.len(), cols], &dy).unwrap().cast(dtype).unwrap();
        let of = || y.backward_from(&dy).unwrap().take(&table).unwrap().to_vec().unwrap();
        let got = of();
        assert_close(&got, &want, tolerance, &format!("{rows} {cols} {dtype} {}", ids.len()));
        assert_eq!(got, of(), "always the same bits");
    }

    #[test]
    fn gradients_of_a_row_add_up() {
        let Some(gpu) = gpu() else { return };
        for cols in [1, 3, 4, 7, 24] {
            check_gradient(&gpu, 61, cols, DType::F32, &ids_below(61, 177), 1e-6);
        }
        check_gradient(&gpu, 1, 5, DType::F32, &[0], 0.0);
        check_gradient(&gpu, 70_001, 3, DType::F32, &ids_below(70_001, 70_003), 1e-6);
        if gpu.facts().features.f16 {
            check_gradient(&gpu, 61, 7, DType::F16, &ids_below(61, 177), 1e-3);
            check_gradient(&gpu, 61, 8, DType::F16, &ids_below(61, 177), 1e-3);
        }
    }

    #[test]
    fn a_row_named_without_end_adds_up_in_parts() {
        let Some(gpu) = gpu() else { return };
        // Far past the turns a loop may take, and past MOST_PLACES twice.
        let ids: Vec<i64> = (0..1_100_003).map(|at| if at % 7 == 0 { 2 } else { 0 }).collect();
        check_gradient(&gpu, 3, 1, DType::F32, &ids, 1e-4);
        if gpu.facts().features.f16 {
            check_gradient(&gpu, 3, 4, DType::F16, &ids[..5000], 1e-3);
        }
    }

    #[test]
    fn gradients_larger_than_a_binding_go_in_windows() {
        let options = Options { binding_bytes: Some(4096), ..Options::default() };
        let Some(gpu) = gpu_with(options) else { return };
        check_gradient(&gpu, 1000, 12, DType::F32, &ids_below(1000, 300), 1e-6);
        check_gradient(&gpu, 5, 3, DType::F32, &ids_below(5, 3001), 1e-5);
    }

    #[test]
    fn the_way_there_meets_the_differences() {
        let Some(gpu) = gpu() else { return };
        let (ids, values) = (ids_below(5, 9), random_from(1, 30, 1.0));
        assert_gradients(
            &gpu,
            &[(&[5, 6], &values)],
            |x| x[0].embedding(&ids, &[3, 3]),
            |x| ids.iter().flat_map(|&id| x[0][id as usize * 6..][..6].to_vec()).collect(),
            1e-6,
            "embedding",
        );
    }

    #[test]
    fn wrong_ids_and_tables_are_refused_before_anything_runs() {
        let plan = Gpu::plan();
        let table = Tensor::empty(&plan, &[10, 4], DType::F32).unwrap();
        for id in [-1, 10, i64::MIN, 1 << 40] {
            let error = table.embedding(&[3, id], &[2]).unwrap_err().to_string();
            assert!(
                error.contains("embedding") && error.contains(&format!("got {id} at place 1")),
                "{error}"
            );
        }
        assert!(matches!(table.embedding(&[1, 2, 3], &[2]), Err(Error::Shape { .. })));
        assert!(matches!(table.reshape(&[40]).unwrap().embedding(&[1], &[1]), Err(Error::Shape { .. })));
        assert!(matches!(table.gather_rows(&table), Err(Error::DType { .. })));
        let ids = Tensor::empty(&plan, &[2], DType::U32).unwrap();
        let error = table.parameter().gather_rows(&ids).unwrap_err().to_string();
        assert!(error.contains("use embedding"), "{error}");
        assert_eq!(plan.counts().dispatches, 0);
        assert!(table.embedding(&[1], &[1]).unwrap().made().is_none());
        assert_eq!(table.embedding(&[], &[0]).unwrap().shape(), [0, 4]);
        assert_eq!(table.embedding(&[9], &[]).unwrap().shape(), [4]);
    }

    #[test]
    fn shader_twin() {
        crate::testing::shader_twin(&BACKWARD, BackwardParams::FIELDS);
        for cell_bytes in [16, 8, 4, 2] {
            let variant = Variant { scalar: Scalar::F16, width: 4, workgroup: 64 };
            let generate = || text(cell_bytes);
            let program = Program::generated("embedding", "forward", variant, 0, &generate);
            validate(&format!("embedding {cell_bytes}"), &program.text(true), Params::FIELDS);
        }
    }
}
