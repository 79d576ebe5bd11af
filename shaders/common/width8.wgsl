// Eight elements at once, as 64-bit integers: a software adapter moves memory word by word, and these are half as
// many words. Reckoned with as two vectors of four.
alias packed = vec4<f32>;
alias words = vec4<u64>;  // eight f32
const WIDTH = 8u;

struct Eight {
    even: packed,  // elements 0, 2, 4, 6
    odd: packed,   // elements 1, 3, 5, 7
}

fn eight_of(v: words) -> Eight {
    return Eight(bitcast<packed>(vec4u(v)), bitcast<packed>(vec4u(v >> vec4u(32u))));
}

fn words_of(v: Eight) -> words {
    return words(bitcast<vec4u>(v.even)) | (words(bitcast<vec4u>(v.odd)) << vec4u(32u));
}
