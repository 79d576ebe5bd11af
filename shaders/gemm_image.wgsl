// A is the window matrix of a convolution, never made: row = output pixel, k = (tap, channel) of a channels-last
// image [batch, height, width, a_stride]. Taps outside the image give 0.
struct Row { image: u32, y: i32, x: i32 }

fn row_of(batch: u32, row: u32) -> Row {
    let pixel = min(row, params.m - 1u);
    let per_image = params.out_height * params.out_width;
    let image = pixel / per_image;
    let rest = pixel - image * per_image;
    let oy = rest / params.out_width;
    let ox = rest - oy * params.out_width;
    return Row(
        image * params.height,
        i32((params.y_first + oy) * (params.stride & 0xffffu)) - i32(params.pad & 0xffffu),
        i32(ox * (params.stride >> 16u)) - i32(params.pad >> 16u),
    );
}

fn tap_of(row: Row, tap: u32) -> Place {
    let ky = tap / params.kernel_width;
    let kx = tap - ky * params.kernel_width;
    let y = row.y + i32(ky * (params.dilation & 0xffffu));
    let x = row.x + i32(kx * (params.dilation >> 16u));
    let inside = y >= 0 && y < i32(params.height) && x >= 0 && x < i32(params.width);
    let pixel = (row.image + u32(select(0, y, inside)) - select(0u, params.origin, inside)) * params.width
        + u32(select(0, x, inside));
    return Place(params.a_base + select(0u, pixel, inside) * params.a_stride, inside);
}
