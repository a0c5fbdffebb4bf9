// SPDX-License-Identifier: Apache-2.0

/**
 * Loaded ahead of the tests: property tests try the same values in every run of `make test`, so that a change fails it
 * and nothing else does. `make properties` goes where chance leads; PROPERTY_SEED repeats what it found.
 */
import { configureGlobal } from 'fast-check';

const { PROPERTY_RUNS, PROPERTY_SEED } = process.env;

if (PROPERTY_SEED !== undefined) configureGlobal({ seed: Number(PROPERTY_SEED) });
else if (PROPERTY_RUNS === undefined) configureGlobal({ seed: 2026 });
