/* SPDX-License-Identifier: MIT */
#include "executor/step.h"
