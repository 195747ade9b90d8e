/* SPDX-License-Identifier: MIT */
#include "executor/snapshot.h"
