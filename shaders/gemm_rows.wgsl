// A is a matrix: [batch, m, k].
struct Row { base: u32 }

fn row_of(batch: u32, row: u32) -> Row {
    return Row(params.a_base + batch * params.a_batch + min(row, params.m - 1u) * params.a_stride);
}

fn tap_of(row: Row, tap: u32) -> Place {
    return Place(row.base, true);
}
