#![no_main]

chainring_libfuzzer::program!(proof);
