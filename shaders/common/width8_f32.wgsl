// As they lie in memory: f32.
alias stored = words;
fn opened(v: stored) -> Eight { return eight_of(v); }
fn closed(v: Eight) -> stored { return words_of(v); }

// v, where `nothing` is 0. Words that are only moved take twice as long on lavapipe as words whose halves are looked at.
fn moved(v: stored, nothing: u32) -> stored {
    return stored(vec4u(v) ^ vec4u(nothing)) | (stored(vec4u(v >> vec4u(32u)) ^ vec4u(nothing)) << vec4u(32u));
}
