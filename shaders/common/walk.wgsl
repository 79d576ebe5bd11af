// A walk over AXES axes (a constant written before this text, as SPREAD is), innermost first, with a place in each of three
// arrays: 6 axes and 3 arrays are what 128 bytes of parameters hold.
struct Params {
    n: u32,  // turns of the walk
    size0: u32,
    size1: u32,
    size2: u32,
    size3: u32,
    size4: u32,
    size5: u32,
    a0: u32,  // steps in array a, in its cells
    a1: u32,
    a2: u32,
    a3: u32,
    a4: u32,
    a5: u32,
    b0: u32,  // steps in array b, in its cells
    b1: u32,
    b2: u32,
    b3: u32,
    b4: u32,
    b5: u32,
    c0: u32,  // steps in array c, in its cells
    c1: u32,
    c2: u32,
    c3: u32,
    c4: u32,
    c5: u32,
    a_start: u32,
    b_start: u32,
    c_start: u32,
    a_tile: u32,  // between the rows of a tile, in a's cells; 0 where single cells are moved
    b_tile: u32,  // the same in b
}

fn place(turn: u32) -> vec3u {
    var at = vec3u(params.a_start, params.b_start, params.c_start);
    var rest = turn;
    if (AXES == 1u) {
        return at + rest * vec3u(params.a0, params.b0, params.c0);
    }
    at += (rest % params.size0) * vec3u(params.a0, params.b0, params.c0);
    rest /= params.size0;
    if (AXES == 2u) {
        return at + rest * vec3u(params.a1, params.b1, params.c1);
    }
    at += (rest % params.size1) * vec3u(params.a1, params.b1, params.c1);
    rest /= params.size1;
    if (AXES == 3u) {
        return at + rest * vec3u(params.a2, params.b2, params.c2);
    }
    at += (rest % params.size2) * vec3u(params.a2, params.b2, params.c2);
    rest /= params.size2;
    if (AXES == 4u) {
        return at + rest * vec3u(params.a3, params.b3, params.c3);
    }
    at += (rest % params.size3) * vec3u(params.a3, params.b3, params.c3);
    rest /= params.size3;
    if (AXES == 5u) {
        return at + rest * vec3u(params.a4, params.b4, params.c4);
    }
    at += (rest % params.size4) * vec3u(params.a4, params.b4, params.c4);
    rest /= params.size4;
    return at + rest * vec3u(params.a5, params.b5, params.c5);
}

// From one of the four places of a turn to the next, where SPREAD is true: they lie a `size0` apart, which is a quarter
// of the innermost axis, and share the divisions.
fn spread() -> vec3u {
    return params.size0 * vec3u(params.a0, params.b0, params.c0);
}
