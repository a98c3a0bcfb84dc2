#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    rekek_fuzz::begin();
    rekek_fuzz::targets::csv(data);
});
