/* SPDX-License-Identifier: MIT */
#include "executor/result.h"
