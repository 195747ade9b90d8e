/* SPDX-License-Identifier: MIT */
#include "executor/outputs.h"
