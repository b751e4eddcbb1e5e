#![no_main]

chainring_libfuzzer::program!(import_line);
