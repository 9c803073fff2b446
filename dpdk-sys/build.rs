//! Finds the system's DPDK, builds the C shim against it and generates the bindings.

use std::env;
use std::path::PathBuf;
use std::process::{self, Command};

const HEADER: &str = "csrc/shim.h";
const SHIM: &str = "csrc/shim.c";

/// The oldest DPDK release that the shim and the safe layer support.
const OLDEST: &str = "22.11";

/// The libraries to link. Drivers are not among them: the EAL loads them as plugins. `rte_log` is a
/// separate library since DPDK 24.03; before that it was part of `rte_eal`.
const LIBRARIES: &[&str] =
    &["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_hash", "rte_log"];

const FUNCTIONS: &[&str] = &[
    "firstack_.*",
    "rte_dev_probe",
    "rte_eal_cleanup",
    "rte_eal_init",
    "rte_eal_remote_launch",
    "rte_eal_wait_lcore",
    "rte_eth_add_rx_callback",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_get_vlan_offload",
    "rte_eth_dev_info_get",
    "rte_eth_dev_rss_hash_conf_get",
    "rte_eth_dev_rss_hash_update",
    "rte_eth_dev_rss_reta_query",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_rx_intr_ctl_q_get_fd",
    "rte_eth_dev_rx_intr_disable",
    "rte_eth_dev_rx_intr_enable",
    "rte_eth_dev_set_link_down",
    "rte_eth_dev_set_link_up",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_remove_rx_callback",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_flow_create",
    "rte_flow_flush",
    "rte_free",
    "rte_get_next_lcore",
    "rte_get_tsc_hz",
    "rte_hash_add_key",
    "rte_hash_del_key",
    "rte_hash_free",
    "rte_hash_lookup_bulk",
    "rte_log_set_global_level",
    "rte_malloc_get_socket_stats",
    "rte_mempool_avail_count",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
];

/// Structures that are written by hand in lib.rs: the mbuf, whose unions have different names in
/// different releases, and the opaque ones.
const BY_HAND: &[&str] =
    &["rte_mbuf", "rte_mbuf_.*", "rte_mempool", "rte_mempool_.*", "rte_device"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={HEADER}");
    println!("cargo:rerun-if-changed={SHIM}");

    let dpdk = find_dpdk();
    let mut flags = compiler_flags();
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        // DPDK's lock headers have inline functions with transactional instructions. In 24.11 these
        // are intrinsics, which compile only with this flag. Nothing here calls them.
        flags.push("-mrtm".into());
    }

    let mut shim = cc::Build::new();
    shim.file(SHIM).warnings(false).opt_level(3);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("firstack_dpdk");

    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in LIBRARIES.iter().filter(|name| dpdk.libs.iter().any(|found| found == *name)) {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    generate_bindings(&flags);
}

/// Finds DPDK through pkg-config. If there is none, the build ends and says what to install.
fn find_dpdk() -> pkg_config::Library {
    let found = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(false)
        .print_system_libs(false)
        .probe("libdpdk");
    match found {
        Ok(library) => library,
        Err(error) => fail(&format!("pkg-config finds no DPDK {OLDEST} or newer: {error}")),
    }
}

/// Returns pkg-config's compiler flags unfiltered: `-include` and `-march` are needed, and the
/// pkg-config crate drops them.
fn compiler_flags() -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
    match Command::new(&program).args(["--cflags", "libdpdk"]).output() {
        Ok(output) if output.status.success() => {
            let flags = String::from_utf8_lossy(&output.stdout);
            flags.split_whitespace().map(str::to_owned).collect()
        }
        Ok(output) => fail(&format!(
            "{program} --cflags libdpdk failed: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => fail(&format!("cannot run {program}: {error}")),
    }
}

fn generate_bindings(flags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header(HEADER)
        .clang_args(flags)
        .allowlist_var("FIRSTACK_.*")
        .allowlist_var("RTE_ETH_MQ_RX_(NONE|RSS)")
        .allowlist_type("rte_flow_action_rss")
        .use_core()
        .derive_default(true)
        .generate_comments(false)
        .prepend_enum_name(false)
        .merge_extern_blocks(true)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for name in BY_HAND {
        builder = builder.blocklist_type(name);
    }
    let bindings = match builder.generate() {
        Ok(bindings) => bindings,
        Err(error) => fail(&format!("bindgen cannot read DPDK's headers: {error}")),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&out) {
        fail(&format!("cannot write {}: {error}", out.display()));
    }
}

/// Ends the build with an error message, and says what to install.
fn fail(reason: &str) -> ! {
    eprintln!(
        "\nerror: {reason}\n\n\
         On Debian or Ubuntu install what the build needs:\n\n    \
         apt-get install libdpdk-dev dpdk pkg-config clang libclang-dev\n\n\
         A DPDK elsewhere is found through PKG_CONFIG_PATH. Without DPDK, leave the cargo \
         feature `dpdk` out: cargo build -p firstack --no-default-features\n"
    );
    process::exit(1);
}
