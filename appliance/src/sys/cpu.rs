//! Checks that the CPU has the features this program is compiled for (`.cargo/config.toml`).
//! Without the check, the first packet would end the process with an illegal instruction and no
//! message.

/// The features of x86-64-v3 and AES that the compiler makes use of, by their names in
/// `/proc/cpuinfo`.
const NEEDED: [&str; 7] = ["avx2", "bmi1", "bmi2", "fma", "movbe", "f16c", "aes"];

/// Returns the required features that this CPU lacks; none if that cannot be determined.
pub fn lacks() -> Vec<&'static str> {
    if !cfg!(all(target_arch = "x86_64", target_feature = "avx2")) {
        return Vec::new();
    }
    std::fs::read_to_string("/proc/cpuinfo").map_or_else(|_| Vec::new(), |text| missing(&text))
}

fn missing(cpuinfo: &str) -> Vec<&'static str> {
    let flags = cpuinfo.lines().find_map(|line| line.strip_prefix("flags"));
    let Some(flags) = flags else { return Vec::new() };
    let has = |needed: &&str| flags.split_whitespace().any(|flag| flag == *needed);
    NEEDED.into_iter().filter(|needed| !has(needed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_processor_is_told_from_a_new_one() {
        let new = "processor\t: 0\nflags\t\t: fpu avx2 bmi1 bmi2 fma movbe f16c aes\n";
        assert!(missing(new).is_empty());
        assert_eq!(missing(&new.replace(" avx2", " avx").replace(" aes", "")), ["avx2", "aes"]);
        assert!(missing("no such file as on x86").is_empty());
        assert!(lacks().is_empty(), "this test runs");
    }
}
