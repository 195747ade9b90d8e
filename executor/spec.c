/* SPDX-License-Identifier: MIT */
#include "executor/spec.h"
