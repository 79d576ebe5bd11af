//! Rows of a table by their ids.    y[i] = table[ids[i]]
//! Same as PyTorch `F.embedding(ids, table)`, for any number type of the table.

use super::layout::cell_type;
use super::{common, flat_groups, params, shaders};
use crate::error::{Error, Result};
use crate::gpu::{Launch, Program, Scalar, Variant, Work};
use crate::tensor::{DType, Tensor, n_elements};

params! {
    struct Params {
        n: u32,
        cols: u32,
        first_row: u32,
        rows: u32,
        all_rows: u32,
    }
}

impl Tensor {
    /// Of this table [n, cols], the rows named by `ids` of a shape: [..] -> [.., cols].
    ///
    /// Errors: [`Error::Shape`] when this is no table, `ids` do not fill `shape`, or an id is not below n.
    pub fn embedding(&self, ids: &[i64], shape: &[usize]) -> Result<Tensor> {
        let (rows, _) = self.table("embedding")?;
        if n_elements(shape)? != ids.len() {
            return Err(Error::shape("embedding", format!("{shape:?} does not hold {} ids", ids.len())));
        }
        if let Some((at, id)) = ids.iter().enumerate().find(|&(_, &id)| id < 0 || id as u64 >= rows as u64) {
            let detail = format!("wanted ids below {rows}, got {id} at place {at}");
            return Err(Error::shape("embedding", detail));
        }
        // Below 2^32: a tensor has no more elements.
        let ids: Vec<u32> = ids.iter().map(|&id| id as u32).collect();
        self.gather_rows(&Tensor::new(self.gpu(), shape, &ids)?)
    }

    /// The same with ids that are on the device already, where nobody can check them: a row of zeros stands for
    /// each id that is out of range.
    ///
    /// Errors: [`Error::Shape`] when this is no table, [`Error::DType`] when `ids` are floats.
    pub fn gather_rows(&self, ids: &Tensor) -> Result<Tensor> {
        const OP: &str = "gather_rows";
        let _op = self.gpu().op(|| format!("{OP} {self} {:?}", ids.shape()));
        let (rows, cols) = self.table(OP)?;
        if !matches!(ids.dtype(), DType::I32 | DType::U32) {
            return Err(Error::dtype(OP, format!("wanted ids, got {:?}", ids.dtype())));
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
    use crate::testing::{gpu, gpu_with, random_from, validate};
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
        assert_eq!(plan.counts().dispatches, 0);
        assert_eq!(table.embedding(&[], &[0]).unwrap().shape(), [0, 4]);
        assert_eq!(table.embedding(&[9], &[]).unwrap().shape(), [4]);
    }

    #[test]
    fn shader_twin() {
        for cell_bytes in [16, 8, 4, 2] {
            let variant = Variant { scalar: Scalar::F16, width: 4, workgroup: 64 };
            let generate = || text(cell_bytes);
            let program = Program::generated("embedding", "forward", variant, 0, &generate);
            validate(&format!("embedding {cell_bytes}"), &program.text(true), Params::FIELDS);
        }
    }
}
