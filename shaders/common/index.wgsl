// Workgroups are launched in a folded grid (an axis holds 65,535 at most): place in the unfolded row.
fn group_index(group: vec3u, groups: vec3u) -> u32 {
    return group.x + group.y * groups.x;
}
