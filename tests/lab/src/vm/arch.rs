//! The two architectures of gateways, as QEMU machines.

use std::fmt;

/// UEFI for arm64, of Debian's package qemu-efi-aarch64.
const UEFI: &str = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd";

/// What a machine's programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    /// That of this machine.
    pub fn native() -> Arch {
        if cfg!(target_arch = "aarch64") { Arch::Arm64 } else { Arch::Amd64 }
    }

    /// QEMU's program for it.
    pub fn emulator(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86_64",
            Arch::Arm64 => "qemu-system-aarch64",
        }
    }

    /// The machine and its core, as arguments. arm64 has the core of a t4g: the newest one is slower without KVM, since its pointer
    /// authentication is emulated, too.
    pub fn machine(self) -> &'static [&'static str] {
        match self {
            Arch::Amd64 => &["-machine", "q35", "-cpu", "max"],
            Arch::Arm64 => &["-machine", "virt", "-cpu", "neoverse-n1", "-bios", UEFI],
        }
    }

    /// Programs, by name, and files, by path, without which it cannot boot.
    pub fn needs(self) -> Vec<&'static str> {
        match self {
            Arch::Amd64 => vec![self.emulator()],
            Arch::Arm64 => vec![self.emulator(), UEFI],
        }
    }

    /// Debian's packages that bring them.
    pub fn packages(self) -> &'static str {
        match self {
            Arch::Amd64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm qemu-efi-aarch64",
        }
    }
}

/// As Debian calls it.
impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::Amd64 => "amd64",
            Arch::Arm64 => "arm64",
        })
    }
}
